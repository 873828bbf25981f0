-- What each recipe takes of each of its streams: the share of the real documents, the synthetic stream up to its cap.
-- A stream used in part is its first megadocs, whole. 1e-9 keeps a whole number whole: 0.07 * 100 is 7.000000000000001.
with recipes as (
    select * from {{ ref('stg_study__recipes') }}
),

megadocs as (
    select * from {{ ref('megadocs') }}
),

lengths as (
    select
        *,
        sum(tokens) over (partition by layout order by position) as tokens_until,
        count(*) over (partition by layout) as megadocs_in_layout
    from megadocs
),

capped as (
    select
        recipes.recipe,
        least(any_value(recipes.max_tokens), any_value(recipes.max_ratio) * sum(lengths.tokens)) as most_tokens
    from recipes
    inner join lengths
        on
            recipes.real_layout = lengths.layout
            and lengths.position < ceil(recipes.share * lengths.megadocs_in_layout - 1e-9)
    group by recipes.recipe
),

drawn as (
    select
        recipe,
        real_layout as layout,
        1 - fraction as stream_fraction,
        false as is_synthetic
    from recipes
    union all
    select
        recipe,
        synthetic_layout as layout,
        fraction as stream_fraction,
        true as is_synthetic
    from recipes
    where fraction > 0
),

final as (
    select
        drawn.recipe,
        drawn.layout,
        drawn.stream_fraction,
        drawn.is_synthetic,
        recipes.context,
        recipes.packing,
        count(*) as stream_megadocs,
        sum(lengths.tokens) as stream_tokens,
        sum(lengths.real_tokens) as stream_real_tokens,
        sum(lengths.synthetic_tokens) as stream_synthetic_tokens,
        list(lengths.tokens order by lengths.position) filter (where recipes.packing <> 'cut') as megadoc_tokens
    from drawn
    inner join recipes
        on drawn.recipe = recipes.recipe
    inner join capped
        on drawn.recipe = capped.recipe
    inner join lengths
        on drawn.layout = lengths.layout
    where
        case
            when drawn.is_synthetic
                then lengths.position = 0 or lengths.tokens_until <= coalesce(capped.most_tokens, lengths.tokens_until)
            else lengths.position < ceil(recipes.share * lengths.megadocs_in_layout - 1e-9)
        end
    group by
        drawn.recipe, drawn.layout, drawn.stream_fraction, drawn.is_synthetic, recipes.context, recipes.packing
)

select * from final
