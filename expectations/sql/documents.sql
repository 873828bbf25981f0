with measured as (
    select
        count(*) as documents,
        count(*) filter (where is_blank(text)) as empty_texts,
        coalesce(quantile_cont(words, 0.05), 0) as words_p05,
        coalesce(quantile_cont(words, 0.50), 0) as words_p50,
        coalesce(quantile_cont(words, 0.95), 0) as words_p95,
        count(*) filter (where language is distinct from $language) as foreign_documents,
        count(*) - count(distinct text_sha256) as repeated_texts,
        count(distinct site) as sites
    from documents
),

reasons as (
    select count(*) filter (where reason is null or reason = '') as drops_without_reason
    from document_drops
),

final as (
    select
        $corpus as corpus,
        measured.*,
        reasons.drops_without_reason
    from measured
    cross join reasons
)

select * from final
