-- Near duplicates of near duplicates belong together; the earliest page of a cluster (then the lowest url) survives.
-- Pages are numbered in that order, and every page takes on the lowest number that a pair leads to.
with pages as (
    select * from {{ ref('int_pages_matched') }}
),

compared as (
    select * from {{ ref('int_pages_compared') }}
),

pairs as (
    select
        page_id_a,
        page_id_b,
        jaccard
    from compared
    where jaccard >= {{ threshold('near_duplicate_jaccard') }}
),

alike as (
    select page_id_a as page_id, page_id_b as other_id, jaccard from pairs
    union all
    select page_id_b, page_id_a, jaccard from pairs
),

closest as (
    select
        page_id,
        max(jaccard) as jaccard
    from alike
    group by page_id
),

numbered as (
    select
        pages.page_id,
        pages.url,
        closest.jaccard,
        row_number() over (order by pages.fetched_at, pages.url, pages.page_id) as place
    from pages
    inner join closest on pages.page_id = closest.page_id
),

edges as materialized ( -- noqa: ST03
    select
        a.place,
        b.place as other_place
    from alike
    inner join numbered as a on alike.page_id = a.page_id
    inner join numbered as b on alike.other_id = b.page_id
),

clusters as (
    select
        place,
        lowest
    from {{ lowest_reached('edges') }}
),

final as (
    select
        numbered.page_id,
        survivors.url as survivor_url,
        clusters.lowest = numbered.place as is_survivor,
        numbered.jaccard
    from clusters
    inner join numbered on clusters.place = numbered.place
    inner join numbered as survivors on clusters.lowest = survivors.place
)

select * from final
