-- One row per recipe. A stream used in part is its first megadocs, whole: recomputed here from the megadocs themselves.
with lengths as (
    select
        layout,
        tokens,
        real_tokens - unknown_tokens as real_tokens,
        synthetic_tokens + unknown_tokens as synthetic_tokens, -- what nobody vouches for is not real
        sum(tokens) over (partition by layout order by position) as tokens_until
    from megadocs
),

streams as (
    select
        mixes.recipe,
        mixes.role,
        mixes.layout,
        mixes.fraction,
        mixes.sequences,
        mixes.stream_sequences,
        mixes.stream_tokens,
        coalesce(sum(lengths.tokens), 0) as tokens,
        coalesce(sum(lengths.real_tokens), 0) as real_tokens,
        coalesce(sum(lengths.synthetic_tokens), 0) as synthetic_tokens
    from mixes
    left join lengths
        on mixes.layout = lengths.layout and lengths.tokens_until <= mixes.stream_tokens
    group by all
),

names as (
    select recipe from asked_mixes
    union
    select recipe from streams
),

final as (
    select
        names.recipe,
        coalesce(any_value(streams.role), 'mix') = 'mix' as is_mix,
        count(streams.layout) as streams,
        count(*) filter (
            where streams.layout = $real_layout and (streams.stream_sequences > 0 or streams.fraction = 0)
        ) as real_streams,
        coalesce(sum(streams.real_tokens) filter (where streams.layout = $real_layout), 0)::bigint as real_tokens,
        count(*) filter (where streams.fraction > 0 and streams.stream_sequences < 1) as unused_streams,
        coalesce(sum(abs(streams.tokens - streams.stream_tokens)), 0)::bigint as token_difference,
        coalesce(max(streams.sequences) - sum(streams.stream_sequences), 0)::bigint as sequence_difference,
        coalesce(
            sum(streams.stream_sequences * streams.synthetic_tokens / nullif(streams.tokens, 0))
            / nullif(sum(streams.stream_sequences), 0),
            0
        ) as synthetic_share
    from names
    left join streams on names.recipe = streams.recipe
    group by names.recipe
    order by names.recipe
)

select * from final
