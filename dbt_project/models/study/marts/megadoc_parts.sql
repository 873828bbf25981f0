with parts as (
    select * from {{ ref('int_parts_collected') }}
),

positions as (
    select * from {{ ref('int_megadocs_positioned') }}
),

ordered as (
    select
        parts.*,
        positions.position,
        row_number() over (
            partition by parts.layout, parts.megadoc_id
            order by parts.part_rank
        ) - 1 as part,
        lead(parts.part_rank) over (
            partition by parts.layout, parts.megadoc_id
            order by parts.part_rank
        ) is null as is_last
    from parts
    inner join positions
        on
            parts.layout = positions.layout
            and parts.megadoc_id = positions.megadoc_id
),

bounded as (
    select
        *,
        layout_kind != 'stretched' or is_last as ends_row
    from ordered
),

final as (
    select
        layout,
        cast(position as integer) as position,
        megadoc_id,
        cast(part as integer) as part,
        kind,
        document_id,
        cast(g as integer) as g,
        text,
        cast(tokens + case when ends_row then 1 else 0 end as bigint) as tokens,
        ends_row,
        domain,
        origin,
        cast(depth as integer) as depth,
        grounded,
        self_consuming
    from bounded
    order by layout, position, part
)

select * from final
