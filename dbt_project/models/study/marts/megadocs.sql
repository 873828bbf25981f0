with parts as (
    select * from {{ ref('megadoc_parts') }}
),

final as (
    select
        layout,
        position,
        megadoc_id,
        min(document_id) as document_id,
        {{ join_text("text || case when ends_row then '" ~ var('boundary') ~ "' else '' end", "part") }} as text,
        cast(count(*) as integer) as parts,
        cast(sum(tokens) as bigint) as tokens,
        cast(sum(case when kind in ('real', 'slice') then tokens else 0 end) as bigint) as real_tokens,
        cast(sum(case when kind in ('real', 'slice') then 0 else tokens end) as bigint) as synthetic_tokens,
        cast(sum(case when origin = 'unknown' then tokens else 0 end) as bigint) as unknown_tokens,
        max(depth) as depth
    from parts
    group by layout, position, megadoc_id
    order by layout, position
)

select * from final
