-- The domain of each document. Domains with less than the study's domain_min_share of the real tokens are one, so that
-- no share is judged on a handful of pages, and a crawl of a million sites has a hundred domains at most.
with documents as (
    select * from {{ ref('stg_study__documents') }}
),

sizes as (
    select
        domain_name,
        sum(tokens) / sum(sum(tokens)) over () as token_share
    from documents
    group by domain_name
),

final as (
    select
        documents.document_id,
        documents.origin,
        documents.depth,
        case
            when sizes.token_share >= {{ guard_setting('domain_min_share') }} then documents.domain_name
            else '(small domains)'
        end as domain
    from documents
    inner join sizes
        on documents.domain_name = sizes.domain_name
)

select * from final
