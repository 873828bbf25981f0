-- Cutting the rationales out of a stretched megadoc's text leaves the original document, byte for byte.
with layouts as (
    select * from {{ ref('stg_study__layouts') }}
),

parts as (
    select * from {{ ref('megadoc_parts') }}
),

megadocs as (
    select * from {{ ref('megadocs') }}
),

documents as (
    select * from {{ ref('stg_study__documents') }}
),

stretched as (
    select
        parts.*,
        sum(length(parts.text)) over (partition by parts.layout, parts.megadoc_id order by parts.part)
        - length(parts.text) as start_at
    from parts
    inner join layouts
        on parts.layout = layouts.layout
    where layouts.kind = 'stretched'
),

cut as (
    select
        stretched.layout,
        stretched.document_id,
        {{ join_text(
            "substring(megadocs.text, cast(stretched.start_at as bigint) + 1, length(stretched.text))",
            "stretched.part"
        ) }} as text
    from stretched
    inner join megadocs
        on
            stretched.layout = megadocs.layout
            and stretched.megadoc_id = megadocs.megadoc_id
    where stretched.kind = 'slice'
    group by stretched.layout, stretched.document_id
),

final as (
    select
        cut.layout,
        documents.document_id
    from documents
    inner join layouts
        on layouts.kind = 'stretched'
    left join cut
        on
            documents.document_id = cut.document_id
            and layouts.layout = cut.layout
    where not documents.is_reserve and (cut.text is null or cut.text != documents.text)
)

select * from final
