-- Every token a recipe is trained on has an origin: the shares of a recipe are its streams, no more and no less.
with shares as (
    select * from {{ ref('mix_shares') }}
),

mixes as (
    select * from {{ ref('mixes') }}
),

told as (
    select
        recipe,
        sum(trained_tokens) as trained_tokens
    from shares
    group by recipe
),

stated as (
    select
        recipe,
        sum(trained_tokens) as trained_tokens
    from mixes
    group by recipe
),

final as (
    select
        stated.recipe,
        stated.trained_tokens as stated_tokens,
        told.trained_tokens as told_tokens
    from stated
    left join told
        on stated.recipe = told.recipe
    where told.trained_tokens is null or abs(stated.trained_tokens - told.trained_tokens) > 1
)

select * from final
