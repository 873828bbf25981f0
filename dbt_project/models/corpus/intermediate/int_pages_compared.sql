-- Pairs of near duplicates: proposed by a shared MinHash band, then measured exactly. Rule off: no Jaccard reaches 2.
with pages as (
    select * from {{ ref('int_pages_matched') }} where rule is null
),

bands as (
    select
        page_id,
        {{ each_of('minhash_bands') }} as band
    from pages
),

candidates as (
    select distinct
        a.page_id as page_id_a,
        b.page_id as page_id_b
    from bands as a
    inner join bands as b on a.band = b.band and a.page_id < b.page_id
),

words as (
    select
        page_id,
        {{ plain_words('text') }} as words
    from pages
    where page_id in (select page_id_a from candidates) or page_id in (select page_id_b from candidates)
),

shingled as (
    select
        page_id,
        {{ shingles('words', threshold('shingle_words')) }} as shingles
    from words
),

measured as (
    select
        candidates.page_id_a,
        candidates.page_id_b,
        {{ jaccard('a.shingles', 'b.shingles') }} as jaccard
    from candidates
    inner join shingled as a on candidates.page_id_a = a.page_id
    inner join shingled as b on candidates.page_id_b = b.page_id
),

final as (
    select
        page_id_a,
        page_id_b,
        jaccard
    from measured
    where jaccard >= {{ threshold('near_duplicate_jaccard') if enabled_rule('duplicates.near') else 2 }}
)

select * from final
