-- Neither a held-out document nor a copy of its text under another address is trained on.
with parts as (
    select * from {{ ref('megadoc_parts') }}
),

documents as (
    select * from {{ ref('stg_study__documents') }}
),

validation as (
    select * from {{ ref('stg_study__validation') }}
),

final as (
    select
        parts.layout,
        parts.document_id,
        validation.url
    from parts
    left join documents
        on parts.document_id = documents.document_id
    inner join validation
        on
            parts.document_id = validation.document_id
            or documents.text_sha256 = validation.text_sha256
)

select * from final
