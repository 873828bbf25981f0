-- What a page was dropped in favour of must itself be kept.
with drops as (
    select * from {{ ref('document_drops') }} where reason in ('exact_duplicate', 'superseded')
),

near as (
    select * from {{ ref('document_drops') }} where reason = 'near_duplicate'
),

documents as (
    select url from {{ ref('documents') }}
),

gone as (
    select url from {{ ref('document_drops') }}
),

final as (
    select near.url, near.duplicate_of
    from near
    where near.duplicate_of not in (select url from documents)
    union all
    select drops.url, drops.duplicate_of
    from drops
    where drops.duplicate_of not in (select url from documents)
        and drops.duplicate_of not in (select url from gone)
)

select * from final
