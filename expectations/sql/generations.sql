-- One row per strategy of the study, and per strategy found that the study does not name.
with sources as (
    select
        document_id,
        len(words(text)) as words
    from train
),

held_out as (
    select document_id from validation
),

judged as (
    select
        generations.strategy,
        generations.g,
        generations.kind,
        generations.truncated,
        generations.tokens,
        generations.input_truncated,
        generations.faithfulness,
        generations.text,
        len(words(generations.text)) / nullif(sources.words, 0) as length_ratio,
        trim(regexp_replace(lower(generations.text), '\s+', ' ', 'g')) as normal_text,
        sources.document_id is null as is_stray,
        generations.document_id in (select document_id from held_out) as is_held_out
    from generations
    left join sources on generations.document_id = sources.document_id
),

copies as (
    select
        strategy,
        avg((overlap >= $near_copy_overlap)::int) as near_copy_share,
        quantile_cont(overlap, 0.95) as overlap_p95
    from near_copies
    group by strategy
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
        coalesce(avg(judged.input_truncated::int), 0) as input_truncated_share,
        count(judged.strategy) > 0
        and coalesce(any_value(asked_strategies.kind), '') in ('rephrase', 'rationale', 'continuation') as is_faithful_to,
        avg(judged.faithfulness) as faithfulness,
        coalesce(quantile_cont(judged.faithfulness, 0.05), 0) as faithfulness_p05,
        coalesce(1 - count(distinct judged.normal_text) / nullif(count(judged.text), 0), 0) as duplicate_share,
        coalesce(any_value(copies.near_copy_share), 0) as near_copy_share,
        coalesce(any_value(copies.overlap_p95), 0) as overlap_p95,
        coalesce(quantile_cont(judged.length_ratio, 0.05), 0) as length_ratio_p05,
        coalesce(quantile_cont(judged.length_ratio, 0.95), 0) as length_ratio_p95,
        coalesce(sum(judged.tokens), 0)::bigint as tokens
    from names
    left join asked_strategies on names.strategy = asked_strategies.strategy
    left join copies on names.strategy = copies.strategy
    left join judged on names.strategy = judged.strategy
    group by names.strategy
    order by names.strategy
)

select * from final
