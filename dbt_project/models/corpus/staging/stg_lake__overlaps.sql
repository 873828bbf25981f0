with source as (
    select * from {{ source('lake', 'overlaps') }}
),

final as (
    select
        page_id,
        url,
        evaluation_set,
        item,
        words,
        share
    from source
)

select * from final
