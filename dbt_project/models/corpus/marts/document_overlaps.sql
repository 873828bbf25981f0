with recitals as (
    select * from {{ ref('stg_lake__overlaps') }}
),

decided as (
    select * from {{ ref('int_pages_decided') }}
),

final as (
    select
        recitals.page_id,
        recitals.url,
        recitals.evaluation_set,
        recitals.item,
        recitals.words,
        recitals.share,
        decided.rule is null as is_document
    from recitals
    inner join decided on recitals.page_id = decided.page_id
    order by recitals.url, recitals.page_id, recitals.evaluation_set
)

select * from final
