with source as (
    select * from {{ source('study', 'study_layouts') }}
),

final as (
    select
        layout,
        kind,
        strategies,
        generations,
        places,
        real_place,
        seed
    from source
)

select * from final
