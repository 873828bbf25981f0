with source as (
    select * from {{ source('study', 'study_documents') }}
),

final as (
    select
        document_id,
        url,
        text,
        text_sha256,
        tokens,
        is_reserve,
        {{ domain_column() }} as domain_name,
        origin,
        depth
    from source
)

select * from final
