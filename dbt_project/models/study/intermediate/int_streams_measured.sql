-- What each recipe takes of each of its streams: the share of the real documents, the synthetic ones up to their cap.
-- A stream used in part is its first megadocs, whole. 1e-9 keeps a whole number whole: 0.07 * 100 is 7.000000000000001.
with recipes as (
    select * from {{ ref('stg_study__recipes') }}
),

streams as (
    select * from {{ ref('stg_study__streams') }}
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

final as (
    select
        streams.recipe,
        streams.layout,
        streams.is_synthetic,
        streams.starts_at,
        streams.ends_at,
        recipes.context,
        recipes.packing,
        count(*) as stream_megadocs,
        sum(lengths.tokens) as stream_tokens,
        sum(lengths.real_tokens) as stream_real_tokens,
        sum(lengths.synthetic_tokens) as stream_synthetic_tokens,
        list(lengths.tokens order by lengths.position) filter (where recipes.packing <> 'cut') as megadoc_tokens
    from streams
    inner join recipes
        on streams.recipe = recipes.recipe
    inner join capped
        on streams.recipe = capped.recipe
    inner join lengths
        on streams.layout = lengths.layout
    where
        case
            when streams.is_synthetic
                then
                    lengths.position = 0
                    or lengths.tokens_until <= coalesce(
                        capped.most_tokens * (streams.ends_at - streams.starts_at) / recipes.fraction,
                        lengths.tokens_until
                    )
            else lengths.position < ceil(recipes.share * lengths.megadocs_in_layout - 1e-9)
        end
    group by
        streams.recipe,
        streams.layout,
        streams.is_synthetic,
        streams.starts_at,
        streams.ends_at,
        recipes.context,
        recipes.packing
)

select * from final
