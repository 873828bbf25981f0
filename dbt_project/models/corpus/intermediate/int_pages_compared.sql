-- Pairs of near duplicates: proposed by a shared MinHash band, then measured exactly. In a band that many pages share
-- (a template with other names in it) each is held against the earliest ones and those just before it, so that a band
-- of n pages costs n comparisons some times over, never n squared; what is alike to one of them is found by that one.
with matched as (
    select * from {{ ref('int_pages_matched') }}
),

trimmed as (
    select * from {{ ref('int_pages_trimmed') }}
),

pages as (
    select
        page_id,
        row_number() over (order by fetched_at, url, page_id) as place
    from matched
    where rule is null{{ " and false" if not enabled_rule('duplicates.near') }}
),

bands as (
    select
        pages.place,
        {{ each_of('trimmed.minhash_bands') }} as band
    from pages
    inner join trimmed on pages.page_id = trimmed.page_id
),

shared_bands as (
    select band
    from bands
    group by band
    having count(*) > 1
),

members as (
    select
        bands.place,
        bands.band,
        row_number() over (partition by bands.band order by bands.place) as seat
    from bands
    inner join shared_bands on bands.band = shared_bands.band
),

meetings as (
    select
        place,
        band,
        {{ each_of(earlier_seats('seat')) }} as other_seat
    from members
),

candidates as (
    select distinct
        members.place as place_a,
        meetings.place as place_b
    from meetings
    inner join members on meetings.band = members.band and meetings.other_seat = members.seat
),

words as (
    select
        pages.place,
        pages.page_id,
        {{ plain_words('trimmed.text') }} as words
    from pages
    inner join trimmed on pages.page_id = trimmed.page_id
    where
        pages.place in (select candidates.place_a from candidates)
        or pages.place in (select candidates.place_b from candidates)
),

shingled as (
    select
        place,
        page_id,
        {{ shingles('words', threshold('shingle_words')) }} as shingles
    from words
),

-- Materialized: else the intersection, which is what costs, would be made again wherever its size is used.
counted as materialized (
    select
        a.page_id as page_id_a,
        b.page_id as page_id_b,
        {{ count_shared('a.shingles', 'b.shingles') }} as shared,
        {{ count_elements('a.shingles') }} + {{ count_elements('b.shingles') }} as together
    from candidates
    inner join shingled as a on candidates.place_a = a.place
    inner join shingled as b on candidates.place_b = b.place
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
        page_id_a,
        page_id_b,
        jaccard
    from measured
    where jaccard >= {{ threshold('near_duplicate_jaccard') }}
)

select * from final
