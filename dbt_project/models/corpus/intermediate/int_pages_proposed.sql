-- Pairs of pages that share a MinHash band. In a band that many pages share (a template with other names in it) each is
-- held against the earliest ones and those just before it, so that a band of n pages costs n comparisons some times
-- over, never n squared; what is alike to one of them is found by that one.
with matched as (
    select * from {{ ref('int_pages_matched') }}
),

trimmed as (
    select * from {{ ref('int_pages_trimmed') }}
),

pages as (
    select
        page_id,
        words_sha256,
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

final as (
    select
        a.page_id as page_id_a,
        b.page_id as page_id_b,
        least(a.words_sha256, b.words_sha256) as words_sha256_low,
        greatest(a.words_sha256, b.words_sha256) as words_sha256_high
    from candidates
    inner join pages as a on candidates.place_a = a.place
    inner join pages as b on candidates.place_b = b.place
)

select * from final
