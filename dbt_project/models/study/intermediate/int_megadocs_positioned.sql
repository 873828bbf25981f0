-- The order of a stream: a shuffle fixed by the layout's seed and the megadoc's own id, never by row order.
-- The reserve comes last: a share of the real stream up to the study's real_share holds none of it.
with parts as (
    select * from {{ ref('int_parts_collected') }}
),

layouts as (
    select * from {{ ref('stg_study__layouts') }}
),

megadocs as (
    select
        layout,
        megadoc_id,
        bool_or(coalesce(is_reserve, false)) as is_reserve
    from parts
    group by layout, megadoc_id
),

final as (
    select
        megadocs.layout,
        megadocs.megadoc_id,
        row_number() over (
            partition by megadocs.layout
            order by megadocs.is_reserve, {{ shuffle_key("layouts.seed", "megadocs.megadoc_id") }}, megadocs.megadoc_id
        ) - 1 as position
    from megadocs
    inner join layouts
        on megadocs.layout = layouts.layout
)

select * from final
