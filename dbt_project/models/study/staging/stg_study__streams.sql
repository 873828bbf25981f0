with source as (
    select * from {{ source('study', 'study_streams') }}
),

final as (
    select
        recipe,
        layout,
        is_synthetic,
        starts_at,
        ends_at
    from source
)

select * from final
