-- The streams of a recipe share out its sequences: none trained twice over, none left out.
with mixes as (
    select * from {{ ref('mixes') }}
),

final as (
    select
        recipe,
        max(sequences) as sequences,
        sum(stream_sequences) as drawn
    from mixes
    group by recipe
    having sum(stream_sequences) != max(sequences)
)

select * from final
