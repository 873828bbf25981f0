-- Near duplicates of near duplicates belong together; the earliest page of a cluster (then the lowest url) survives.
with recursive

pages as (
    select * from {{ ref('int_pages_matched') }}
),

pairs as (
    select * from {{ ref('int_pages_compared') }}
),

edges as (
    select page_id_a as page_id, page_id_b as other_id, jaccard from pairs
    union all
    select page_id_b, page_id_a, jaccard from pairs
),

reached as (
    select page_id, page_id as other_id from edges
    union
    select reached.page_id, edges.other_id
    from reached
    inner join edges on reached.other_id = edges.page_id
),

ranked as (
    select
        reached.page_id,
        pages.page_id as survivor_id,
        pages.url as survivor_url,
        row_number() over (partition by reached.page_id order by pages.fetched_at, pages.url) as place
    from reached
    inner join pages on reached.other_id = pages.page_id
),

closest as (
    select
        page_id,
        max(jaccard) as jaccard
    from edges
    group by page_id
),

final as (
    select
        ranked.page_id,
        ranked.survivor_url,
        ranked.page_id = ranked.survivor_id as is_survivor,
        closest.jaccard
    from ranked
    inner join closest on ranked.page_id = closest.page_id
    where ranked.place = 1
)

select * from final
