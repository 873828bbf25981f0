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
        faithfulness,
        origin,
        depth,
        grounded,
        self_consuming,
        seed_document_ids,
        generator_mix,
        decoding,
        verifier,
        verdict,
        engine,
        model
    from source
)

select * from final
