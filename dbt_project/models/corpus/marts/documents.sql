with pages as (
    select * from {{ ref('int_pages_trimmed') }}
),

decided as (
    select * from {{ ref('int_pages_decided') }}
),

final as (
    select
        substr({{ sha256_hex('pages.url') }}, 1, 16) as document_id,
        pages.page_id,
        pages.url,
        pages.site,
        pages.title,
        pages.text,
        pages.words,
        pages.fetched_at,
        pages.day,
        pages.language,
        pages.language_score,
        {{ sha256_hex('pages.text') }} as text_sha256,
        '{{ var("corpus") }}' as corpus,
        '{{ var("origin") }}' as origin,
        0 as depth
    from pages
    inner join decided on pages.page_id = decided.page_id
    where decided.rule is null
    order by pages.url, pages.page_id
)

select * from final
