-- The order of a stream: a shuffle fixed by the layout's seed and the megadoc's own id, never by row order.
with parts as (
    select * from {{ ref('int_parts_collected') }}
),

layouts as (
    select * from {{ ref('stg_study__layouts') }}
),

megadocs as (
    select distinct
        layout,
        megadoc_id
    from parts
),

final as (
    select
        megadocs.layout,
        megadocs.megadoc_id,
        row_number() over (
            partition by megadocs.layout
            order by {{ shuffle_key("layouts.seed", "megadocs.megadoc_id") }}, megadocs.megadoc_id
        ) - 1 as position
    from megadocs
    inner join layouts
        on megadocs.layout = layouts.layout
)

select * from final
