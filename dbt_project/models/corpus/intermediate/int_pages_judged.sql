-- Every page with the first rule it fails, or nulls. One that recites an evaluation set is nobody's survivor,
-- so this is decided before copies are looked for; its value is the largest share of an item.
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

recitals as (
    select
        page_id,
        max(share) as share
    from {{ ref('stg_lake__overlaps') }}
    where {{ 'true' if var('decontamination', 'drop') == 'drop' else 'false' }}
    group by page_id
),

final as (
    select
        pages.page_id,
        pages.url,
        pages.text,
        pages.fetched_at,
        pages.minhash_bands,
        coalesce(failures.rule, case when recitals.page_id is not null then 'decontamination.overlap' end) as rule,
        coalesce(failures.reason, case when recitals.page_id is not null then 'contaminated' end) as reason,
        case when failures.rule is null then recitals.share else failures.value end as value,
        case
            when failures.rule is not null then failures.threshold
            when recitals.page_id is not null then 0.0
        end as threshold
    from pages
    left join failures on pages.page_id = failures.page_id and failures.failure = 1
    left join recitals on pages.page_id = recitals.page_id
)

select * from final
