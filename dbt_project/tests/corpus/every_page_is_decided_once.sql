-- Row conservation: a page that is neither document nor drop, or more than once either.
with pages as (
    select page_id from {{ ref('stg_lake__pages') }}
),

outcomes as (
    select page_id from {{ ref('documents') }}
    union all
    select page_id from {{ ref('document_drops') }}
),

counted as (
    select
        page_id,
        count(*) as outcomes
    from outcomes
    group by page_id
),

final as (
    select
        pages.page_id,
        coalesce(counted.outcomes, 0) as outcomes
    from pages
    left join counted on pages.page_id = counted.page_id
    where coalesce(counted.outcomes, 0) <> 1
)

select * from final
