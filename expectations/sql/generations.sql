-- One row per strategy of the study, and per strategy found that the study does not name.
with sources as (
    select
        document_id,
        words(text) as source_words
    from train
),

held_out as (
    select document_id from validation
),

prepared as (
    select
        generations.strategy,
        generations.g,
        generations.kind,
        generations.truncated,
        generations.tokens,
        generations.text,
        sources.source_words,
        words(generations.text) as own_words,
        trim(regexp_replace(lower(generations.text), '\s+', ' ', 'g')) as normal_text,
        sources.document_id is null as is_stray,
        generations.document_id in (select document_id from held_out) as is_held_out
    from generations
    left join sources on generations.document_id = sources.document_id
),

compared as (
    select
        *,
        list_distinct(word_runs(own_words, $near_copy_words)) as own_runs,
        list_distinct(word_runs(coalesce(source_words, []), $near_copy_words)) as source_runs
    from prepared
),

judged as (
    select
        *,
        len(own_words) / nullif(len(source_words), 0) as length_ratio,
        case when len(own_runs) = 0 then 0 else len(list_intersect(own_runs, source_runs)) / len(own_runs) end as overlap
    from compared
),

names as (
    select strategy from asked_strategies
    union
    select strategy from generations
),

final as (
    select
        names.strategy,
        count(judged.strategy) as generations,
        coalesce(any_value(asked_strategies.kind), '') not in ('', 'augment') as is_written,
        count(*) filter (where judged.strategy is not null and is_blank(judged.text)) as empty_texts,
        count(*) filter (where judged.is_held_out) as held_out,
        count(*) filter (
            where judged.strategy is not null and not judged.is_held_out and (
                judged.is_stray
                or asked_strategies.strategy is null
                or judged.kind is distinct from asked_strategies.kind
                or judged.g not between 0 and asked_strategies.generations - 1
            )
        ) as unplanned,
        coalesce(avg(judged.truncated::int), 0) as truncated_share,
        coalesce(1 - count(distinct judged.normal_text) / nullif(count(judged.text), 0), 0) as duplicate_share,
        coalesce(avg((judged.overlap >= $near_copy_overlap)::int), 0) as near_copy_share,
        coalesce(quantile_cont(judged.overlap, 0.95), 0) as overlap_p95,
        coalesce(quantile_cont(judged.length_ratio, 0.05), 0) as length_ratio_p05,
        coalesce(quantile_cont(judged.length_ratio, 0.95), 0) as length_ratio_p95,
        coalesce(sum(judged.tokens), 0)::bigint as tokens
    from names
    left join asked_strategies on names.strategy = asked_strategies.strategy
    left join judged on names.strategy = judged.strategy
    group by names.strategy
    order by names.strategy
)

select * from final
