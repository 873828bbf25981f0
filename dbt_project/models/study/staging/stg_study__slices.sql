with source as (
    select * from {{ source('study', 'study_slices') }}
),

final as (
    select
        document_id,
        strategy,
        slice,
        text,
        tokens
    from source
)

select * from final
