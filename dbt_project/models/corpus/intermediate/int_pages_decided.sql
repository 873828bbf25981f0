-- One row per page with its one decision: rule and reason are null for a page that is kept.
with judged as (
    select * from {{ ref('int_pages_judged') }}
),

matched as (
    select * from {{ ref('int_pages_matched') }}
),

clustered as (
    select * from {{ ref('int_pages_clustered') }}
),

decided as (
    select
        judged.page_id,
        judged.url,
        coalesce(
            judged.rule, matched.rule, case when not clustered.is_survivor then 'duplicates.near' end
        ) as rule,
        judged.reason,
        judged.value,
        judged.threshold,
        coalesce(matched.duplicate_of, case when not clustered.is_survivor then clustered.survivor_url end)
            as duplicate_of,
        clustered.jaccard
    from judged
    left join matched on judged.page_id = matched.page_id
    left join clustered on judged.page_id = clustered.page_id
),

final as (
    select
        page_id,
        url,
        rule,
        case rule
            when 'url.superseded' then 'superseded'
            when 'duplicates.exact' then 'exact_duplicate'
            when 'duplicates.near' then 'near_duplicate'
            else reason
        end as reason,
        case rule when 'duplicates.exact' then 1.0 when 'duplicates.near' then jaccard else value end as value,
        case rule
            when 'duplicates.exact' then 1.0
            when 'duplicates.near' then {{ threshold('near_duplicate_jaccard') }}
            else threshold
        end as threshold,
        duplicate_of
    from decided
)

select * from final
