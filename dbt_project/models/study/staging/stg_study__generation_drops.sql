with source as (
    select * from {{ source('study', 'study_generation_drops') }}
),

final as (
    select
        generation_id,
        document_id,
        url,
        strategy,
        kind,
        g,
        reason,
        detail,
        defects,
        attempt,
        parts
    from source
)

select * from final
