with source as (
    select * from {{ source('study', 'study_recipes') }}
),

final as (
    select
        recipe,
        role,
        share,
        real_layout,
        fraction,
        epochs,
        max_tokens,
        max_ratio,
        context,
        batch,
        block,
        packing
    from source
)

select * from final
