-- The reserve (documents no mix may use) is in the real layouts alone.
-- Every part of every layout, with its rank inside its megadoc. Layouts differ only in what makes a megadoc:
-- real and simple: each row alone; stitched: all rows of a document; stretched: one row of slices and rationales.
with layouts as (
    select * from {{ ref('stg_study__layouts') }}
),

documents as (
    select * from {{ ref('stg_study__documents') }}
),

generations as (
    select * from {{ ref('stg_study__generations') }}
),

slices as (
    select * from {{ ref('stg_study__slices') }}
),

domains as (
    select * from {{ ref('int_documents_domained') }}
),

real_documents as (
    select
        layouts.layout,
        layouts.kind as layout_kind,
        documents.document_id,
        'real' as kind,
        cast(null as integer) as g,
        case layouts.real_place when 'first' then -1 else layouts.generations end as part_rank,
        documents.text,
        documents.tokens,
        cast(null as varchar) as pool,
        coalesce(documents.is_reserve, false) as is_reserve,
        cast(null as varchar) as written_origin,
        cast(null as integer) as written_depth,
        false as grounded,
        false as self_consuming
    from layouts
    cross join documents
    where
        layouts.kind = 'real'
        or (
            layouts.kind in ('simple', 'stitched')
            and layouts.real_place != 'none'
            and not coalesce(documents.is_reserve, false)
        )
),

generated as (
    select
        layouts.layout,
        layouts.kind as layout_kind,
        generations.document_id,
        generations.kind,
        generations.g,
        case layouts.kind when 'stretched' then 2 * generations.g + 1 else generations.g end as part_rank,
        generations.text,
        generations.tokens,
        case when len(layouts.strategies) > 1 then generations.strategy end as pool,
        false as is_reserve,
        generations.origin as written_origin,
        generations.depth as written_depth,
        generations.grounded,
        generations.self_consuming
    from layouts
    inner join generations
        on list_contains(layouts.strategies, generations.strategy)
    where generations.g < layouts.generations
),

sliced as (
    select
        layouts.layout,
        layouts.kind as layout_kind,
        slices.document_id,
        'slice' as kind,
        slices.slice as g,
        2 * slices.slice as part_rank,
        slices.text,
        slices.tokens,
        cast(null as varchar) as pool,
        false as is_reserve,
        cast(null as varchar) as written_origin,
        cast(null as integer) as written_depth,
        false as grounded,
        false as self_consuming
    from layouts
    inner join slices
        on list_contains(layouts.strategies, slices.strategy)
    where layouts.kind = 'stretched'
),

collected as (
    select * from real_documents
    union all
    select * from generated
    union all
    select * from sliced
),

final as (
    select
        collected.*,
        case
            when collected.layout_kind in ('stitched', 'stretched') then collected.document_id
            else collected.document_id || coalesce('/' || collected.pool, '')
                || '/' || coalesce(cast(collected.g as varchar), 'real')
        end as megadoc_id,
        coalesce(domains.domain, '(unknown document)') as domain,
        case when collected.kind in ('real', 'slice') then domains.origin else collected.written_origin end as origin,
        case when collected.kind in ('real', 'slice') then domains.depth else collected.written_depth end as depth
    from collected
    left join domains
        on collected.document_id = domains.document_id
)

select * from final
