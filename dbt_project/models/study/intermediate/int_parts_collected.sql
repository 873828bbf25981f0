-- The reserve (documents no mix may use) is in the real layouts alone.
-- Every part of every layout, with its rank inside its megadoc. Layouts differ only in what makes a megadoc:
-- real and simple: each row alone; stitched: all rows of a document; stretched: one row of slices and rationales.
-- An aligned layout has been told what it leaves out: texts by their id, documents of unknown origin by having none.
-- A stretched one has a candidate at each place: the first, or the one that it has been told to keep.
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

left_out as (
    select
        layout,
        document_id,
        coalesce(generation_id, '') as generation_id,
        coalesce(strategy, '') as strategy
    from {{ ref('stg_study__weights') }}
    where not keeps
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
        '' as generation_id,
        '' as strategy,
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
        generations.generation_id,
        generations.strategy,
        case layouts.kind
            when 'stretched' then 2 * (generations.g % layouts.places) + 1
            else generations.g
        end as part_rank,
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
        cast(null as varchar) as generation_id,
        slices.strategy,
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

chosen as (
    select collected.*
    from collected
    left join left_out
        on
            collected.layout = left_out.layout
            and collected.document_id = left_out.document_id
            and collected.generation_id = left_out.generation_id
            and collected.strategy = left_out.strategy
    where left_out.layout is null
),

final as (
    select
        chosen.*,
        case
            when chosen.layout_kind in ('stitched', 'stretched') then chosen.document_id
            else chosen.document_id || coalesce('/' || chosen.pool, '')
                || '/' || coalesce(cast(chosen.g as varchar), 'real')
        end as megadoc_id,
        coalesce(domains.domain, '(unknown document)') as domain,
        case when chosen.kind in ('real', 'slice') then domains.origin else chosen.written_origin end as origin,
        case when chosen.kind in ('real', 'slice') then domains.depth else chosen.written_depth end as depth
    from chosen
    left join domains
        on chosen.document_id = domains.document_id
)

select * from final
