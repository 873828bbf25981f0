with source as (
    select * from {{ source('study', 'study_weights') }}
),

final as (
    select
        layout,
        document_id,
        generation_id,
        strategy,
        score,
        weight,
        keeps
    from source
)

select * from final
