with source as (
    select * from {{ source('study', 'study_validation') }}
),

final as (
    select
        document_id,
        url,
        text_sha256
    from source
)

select * from final
