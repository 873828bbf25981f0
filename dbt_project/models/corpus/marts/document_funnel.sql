-- Every record that could be a page, by the day it was captured and what became of it: per day the counts add up to the
-- records that were read. Words are those left after lines that a site repeats were cut.
with pages as (
    select * from {{ ref('int_pages_trimmed') }}
),

decided as (
    select * from {{ ref('int_pages_decided') }}
),

outcomes as (
    select
        pages.day,
        case when decided.rule is null then 'document' else 'dropped' end as outcome,
        coalesce(decided.reason, '') as reason,
        coalesce(decided.rule, '') as rule,
        pages.words,
        length(pages.text) as characters,
        {{ count_bytes('pages.text') }} as bytes
    from pages
    inner join decided on pages.page_id = decided.page_id
    union all
    select
        day,
        'quarantined' as outcome,
        cause as reason,
        '' as rule,
        null as words,
        null as characters,
        null as bytes
    from {{ ref('stg_lake__quarantine') }}
),

final as (
    select
        day,
        outcome,
        reason,
        rule,
        count(*) as pages,
        cast(sum(words) as bigint) as words,
        cast(sum(characters) as bigint) as characters,
        cast(round(sum(bytes) / 4) as bigint) as tokens
    from outcomes
    group by day, outcome, reason, rule
    order by day, outcome, reason, rule
)

select * from final
