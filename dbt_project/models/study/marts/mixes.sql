-- steps = floor(steps_per_real_epoch * epochs / (1 - f)) (megadocs paper, section 4): epochs fix the real text,
-- f adds synthetic text on top. With f = 1 there is no separate real stream: epochs are passes over the synthetic text.
-- 1e-9 keeps a whole number whole in floating point.
with recipes as (
    select * from {{ ref('stg_study__recipes') }}
),

streams as (
    select * from {{ ref('int_streams_measured') }}
),

packed as (
    select * from {{ ref('int_windows_packed') }}
),

windowed as (
    select
        recipes.*,
        streams.layout,
        streams.is_synthetic,
        streams.starts_at,
        streams.ends_at,
        streams.stream_megadocs,
        streams.stream_tokens,
        streams.stream_real_tokens,
        streams.stream_synthetic_tokens,
        coalesce(packed.windows, ceil(streams.stream_tokens / recipes.context)) as windows
    from recipes
    inner join streams
        on recipes.recipe = streams.recipe
    left join packed
        on streams.recipe = packed.recipe and streams.layout = packed.layout
),

batched as (
    select
        *,
        floor(sum(case when not is_synthetic then windows end) over (partition by recipe) / batch)
            as steps_per_real_epoch,
        floor(sum(case when is_synthetic = (fraction = 1) then windows end) over (partition by recipe) / batch)
            as steps_per_epoch,
        case when fraction < 1 then 1 - fraction else 1 end as share_of_steps
    from windowed
),

stepped as (
    select
        *,
        floor(steps_per_epoch * epochs / share_of_steps + 1e-9) as steps,
        batch * floor(steps_per_epoch * epochs / share_of_steps + 1e-9) as sequences
    from batched
),

blocked as (
    select
        *,
        floor(sequences / block) as blocks,
        sequences - block * floor(sequences / block) as rest
    from stepped
),

drawn as (
    select
        *,
        blocks * (floor(ends_at * block + 0.5 + 1e-9) - floor(starts_at * block + 0.5 + 1e-9))
        + floor(ends_at * rest + 0.5 + 1e-9) - floor(starts_at * rest + 0.5 + 1e-9) as stream_sequences
    from blocked
),

final as (
    select
        recipe,
        role,
        share,
        layout,
        is_synthetic,
        ends_at - starts_at as fraction,
        cast(stream_megadocs as bigint) as stream_megadocs,
        cast(stream_tokens as bigint) as stream_tokens,
        cast(stream_real_tokens as bigint) as stream_real_tokens,
        cast(stream_synthetic_tokens as bigint) as stream_synthetic_tokens,
        cast(windows as bigint) as windows,
        epochs,
        cast(steps_per_real_epoch as bigint) as steps_per_real_epoch,
        cast(steps as bigint) as steps,
        cast(sequences as bigint) as sequences,
        cast(stream_sequences as bigint) as stream_sequences,
        stream_sequences / windows as passes,
        case when sequences > 0 then stream_sequences / sequences end as realised_fraction,
        cast(
            case
                when packing = 'cut' then stream_sequences * context
                else stream_sequences / windows * stream_tokens
            end as bigint
        ) as trained_tokens
    from drawn
    order by role, recipe, is_synthetic, starts_at
)

select * from final
