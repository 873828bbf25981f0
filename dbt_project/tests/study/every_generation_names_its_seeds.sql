-- What is written over a document names that document, and a text is never its own ancestor (G1).
with generations as (
    select * from {{ ref('stg_study__generations') }}
),

final as (
    select
        strategy,
        document_id,
        g,
        seed_document_ids
    from generations
    where
        (grounded and not list_contains(seed_document_ids, document_id))
        or list_contains(seed_document_ids, generation_id)
        or depth < 1
)

select * from final
