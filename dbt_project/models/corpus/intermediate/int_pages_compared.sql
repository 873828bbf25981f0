-- The exact Jaccard of each proposed pair. It depends on nothing but the two texts, so that of two texts which were
-- compared for the latest documents is taken from there, and only pairs with a new or changed text are measured.
with proposed as (
    select * from {{ ref('int_pages_proposed') }}
),

trimmed as (
    select * from {{ ref('int_pages_trimmed') }}
),

known as (
    select * from {{ ref('stg_lake__comparisons') }}
),

recalled as materialized (
    select
        proposed.page_id_a,
        proposed.page_id_b,
        proposed.words_sha256_low,
        proposed.words_sha256_high,
        known.jaccard
    from proposed
    left join known
        on
            proposed.words_sha256_low = known.words_sha256_low
            and proposed.words_sha256_high = known.words_sha256_high
),

unknown as (
    select
        page_id_a,
        page_id_b
    from recalled
    where jaccard is null
),

words as (
    select
        page_id,
        {{ plain_words('text') }} as words
    from trimmed
    where
        page_id in (select unknown.page_id_a from unknown)
        or page_id in (select unknown.page_id_b from unknown)
),

shingled as (
    select
        page_id,
        {{ shingles('words', threshold('shingle_words')) }} as shingles
    from words
),

-- Materialized: else what they share, which is what costs, would be counted again wherever it is used.
counted as materialized (
    select
        a.page_id as page_id_a,
        b.page_id as page_id_b,
        {{ count_shared('a.shingles', 'b.shingles') }} as shared,
        {{ count_elements('a.shingles') }} + {{ count_elements('b.shingles') }} as together
    from unknown
    inner join shingled as a on unknown.page_id_a = a.page_id
    inner join shingled as b on unknown.page_id_b = b.page_id
),

measured as (
    select
        page_id_a,
        page_id_b,
        shared / nullif(together - shared, 0) as jaccard
    from counted
),

final as (
    select
        recalled.page_id_a,
        recalled.page_id_b,
        recalled.words_sha256_low,
        recalled.words_sha256_high,
        coalesce(recalled.jaccard, measured.jaccard) as jaccard
    from recalled
    left join measured
        on recalled.page_id_a = measured.page_id_a and recalled.page_id_b = measured.page_id_b
)

select * from final
