-- Layouts of the same generations differ in order only: the same multiset of rows and tokens. An aligned one chooses.
with layouts as (
    select * from {{ ref('stg_study__layouts') }}
    where layout not in (select layout from {{ ref('stg_study__weights') }})
),

parts as (
    select * from {{ ref('megadoc_parts') }}
),

pairs as (
    select
        simple.layout as simple_layout,
        stitched.layout as stitched_layout
    from layouts as simple
    inner join layouts as stitched
        on
            simple.strategies = stitched.strategies
            and simple.generations = stitched.generations
            and (simple.real_place = 'none') = (stitched.real_place = 'none')
    where
        simple.kind = 'simple'
        and stitched.kind = 'stitched'
),

counted as (
    select
        pairs.simple_layout,
        pairs.stitched_layout,
        parts.document_id,
        parts.kind,
        parts.g,
        parts.text,
        parts.tokens,
        sum(case when parts.layout = pairs.simple_layout then 1 else -1 end) as surplus
    from pairs
    inner join parts
        on parts.layout in (pairs.simple_layout, pairs.stitched_layout)
    group by 1, 2, 3, 4, 5, 6, 7
),

final as (
    select * from counted where surplus != 0
)

select * from final
