-- Every page with the first rule it fails, or nulls.
with pages as (
    select * from {{ ref('int_pages_trimmed') }}
),

measured as (
    select * from {{ ref('int_pages_measured') }}
),

failures as (
    select
        page_id,
        rule,
        reason,
        value,
        threshold,
        row_number() over (partition by page_id order by rule_number) as failure
    from measured
    where failed
),

final as (
    select
        pages.page_id,
        pages.url,
        pages.text,
        pages.fetched_at,
        pages.minhash_bands,
        failures.rule,
        failures.reason,
        failures.value,
        failures.threshold
    from pages
    left join failures on pages.page_id = failures.page_id and failures.failure = 1
)

select * from final
