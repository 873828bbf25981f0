-- Row conservation per day: a day whose funnel has more or fewer pages than it was given, or documents than it made.
with given as (
    select
        day,
        count(*) as pages,
        0 as documents
    from {{ ref('stg_lake__pages') }}
    group by day
    union all
    select
        day,
        count(*) as pages,
        0 as documents
    from {{ ref('stg_lake__quarantine') }}
    group by day
    union all
    select
        day,
        0 as pages,
        count(*) as documents
    from {{ ref('documents') }}
    group by day
    union all
    select
        day,
        -sum(pages) as pages,
        -sum(case when outcome = 'document' then pages else 0 end) as documents
    from {{ ref('document_funnel') }}
    group by day
),

final as (
    select
        day,
        sum(pages) as pages_missing,
        sum(documents) as documents_missing
    from given
    group by day
    having sum(pages) <> 0 or sum(documents) <> 0
)

select * from final
