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
        is_reserve
    from source
)

select * from final
