with source as (
    select * from {{ source('study', 'study_generations') }}
),

final as (
    select
        generation_id,
        document_id,
        strategy,
        kind,
        g,
        case
            when kind = 'rationale' then '{{ var("think_open") }}' || text || '{{ var("think_close") }}'
            else text
        end as text,
        tokens,
        prompt,
        attempt,
        parts,
        input_truncated,
        defects,
        faithfulness
    from source
)

select * from final
