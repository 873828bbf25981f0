-- What each recipe is trained on, by domain and provenance: the tokens of the megadocs its streams take, as often as
-- they are passed over. A stream takes its first megadocs, whole.
with parts as (
    select * from {{ ref('megadoc_parts') }}
),

mixes as (
    select * from {{ ref('mixes') }}
),

taken as (
    select distinct
        layout,
        stream_megadocs
    from mixes
),

measured as (
    select
        taken.layout,
        taken.stream_megadocs,
        parts.domain,
        parts.origin,
        parts.depth,
        parts.grounded,
        parts.self_consuming,
        sum(parts.tokens) as tokens
    from taken
    inner join parts
        on
            taken.layout = parts.layout
            and taken.stream_megadocs > parts.position
    group by all
),

trained as (
    select
        mixes.recipe,
        mixes.role,
        measured.domain,
        measured.origin,
        measured.depth,
        measured.grounded,
        measured.self_consuming,
        sum(mixes.trained_tokens * measured.tokens / mixes.stream_tokens) as trained_tokens
    from mixes
    inner join measured
        on
            mixes.layout = measured.layout
            and mixes.stream_megadocs = measured.stream_megadocs
    group by all
),

final as (
    select
        recipe,
        role,
        domain,
        origin,
        depth,
        grounded,
        self_consuming,
        trained_tokens,
        trained_tokens / nullif(sum(trained_tokens) over (partition by recipe), 0) as recipe_share,
        trained_tokens / nullif(sum(trained_tokens) over (partition by recipe, domain), 0) as domain_share
    from trained
    order by recipe, domain, origin, depth, grounded, self_consuming
)

select * from final
