-- Walking a megadoc's text by the lengths of its parts gives back each part and nothing else.
with parts as (
    select * from {{ ref('megadoc_parts') }}
),

megadocs as (
    select * from {{ ref('megadocs') }}
),

measured as (
    select
        *,
        length(text) + case when ends_row then length('{{ var("boundary") }}') else 0 end as characters
    from parts
),

placed as (
    select
        *,
        sum(characters) over (partition by layout, megadoc_id order by part) - characters as start_at,
        sum(characters) over (partition by layout, megadoc_id) as characters_in_all
    from measured
),

final as (
    select
        placed.layout,
        placed.megadoc_id,
        placed.part
    from placed
    left join megadocs
        on
            placed.layout = megadocs.layout
            and placed.megadoc_id = megadocs.megadoc_id
    where
        megadocs.text is null
        or length(megadocs.text) != placed.characters_in_all
        or substring(megadocs.text, cast(placed.start_at as bigint) + 1, length(placed.text)) != placed.text
)

select * from final
