with source as (
    select * from {{ source('lake', 'quarantine') }}
),

final as (
    select
        day,
        cause
    from source
)

select * from final
