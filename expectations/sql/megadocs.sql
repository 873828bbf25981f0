-- One row per layout of the study, and per layout found that the study does not name.
with parts as (
    select
        megadoc_parts.layout,
        count(*) as parts,
        count(distinct document_id) filter (where kind in ('real', 'slice')) as real_documents,
        count(*) filter (where kind not in ('real', 'slice')) as written_parts,
        count(*) filter (where document_id in (select document_id from validation)) as held_out,
        count(*) filter (
            where document_id not in (select document_id from train)
            and document_id not in (select document_id from validation)
        ) as stray_parts,
        count(leaks.text) as leaked_parts,
        coalesce(
            first(
                'first: megadoc ' || megadoc_id || ' part ' || part || ' holds "' || leaks.run_text
                || '" of ' || leaks.validation_url
                order by position, part
            ) filter (where leaks.text is not null),
            ''
        ) as leak
    from megadoc_parts
    left join leaks on megadoc_parts.text = leaks.text
    group by megadoc_parts.layout
),

sums as (
    select
        layout,
        position,
        count(*) as parts,
        sum(tokens) as tokens,
        coalesce(sum(tokens) filter (where kind in ('real', 'slice')), 0) as real_tokens
    from megadoc_parts
    group by layout, position
),

whole as (
    select
        coalesce(megadocs.layout, sums.layout) as layout,
        count(megadocs.position) as megadocs,
        count(*) filter (where is_blank(megadocs.text) or megadocs.tokens = 0) as empty_megadocs,
        count(*) filter (
            where megadocs.parts is distinct from sums.parts
            or megadocs.tokens is distinct from sums.tokens
            or megadocs.real_tokens is distinct from sums.real_tokens
            or megadocs.real_tokens + megadocs.synthetic_tokens is distinct from megadocs.tokens
        ) as unlike_their_parts,
        abs(max(megadocs.position) + 1 - count(distinct megadocs.position)) as gaps,
        sum(megadocs.tokens)::bigint as tokens,
        quantile_cont(megadocs.tokens, 0.05) as tokens_p05,
        quantile_cont(megadocs.tokens, 0.95) as tokens_p95
    from megadocs
    full join sums on megadocs.layout = sums.layout and megadocs.position = sums.position
    group by coalesce(megadocs.layout, sums.layout)
),

unchosen as (
    select
        left_out.layout,
        count(*) as documents,
        count(*) filter (where not train.is_reserve) as usable_documents
    from left_out
    inner join train on left_out.document_id = train.document_id
    where left_out.generation_id is null
    group by left_out.layout
),

expected as (
    select
        asked_layouts.layout,
        count(generations.document_id) as planned_parts,
        case
            when not any_value(asked_layouts.holds_real) then 0
            when any_value(asked_layouts.holds_reserve)
                then (select count(*) from train) - coalesce(any_value(unchosen.documents), 0)
            else
                (select count(*) from train where not is_reserve) - coalesce(any_value(unchosen.usable_documents), 0)
        end as planned_documents
    from asked_layouts
    left join unchosen on asked_layouts.layout = unchosen.layout
    left join generations
        on asked_layouts.strategy = generations.strategy and generations.g < asked_layouts.generations
        and not exists (
            select 1 from left_out
            where
                left_out.layout = asked_layouts.layout
                and left_out.generation_id = generations.generation_id
                and left_out.strategy = generations.strategy
        )
    group by asked_layouts.layout
),

names as (
    select layout from expected
    union
    select layout from megadocs
),

final as (
    select
        names.layout,
        coalesce(whole.megadocs, 0) as megadocs,
        coalesce(whole.empty_megadocs, 0) as empty_megadocs,
        coalesce(whole.unlike_their_parts, 0) as unlike_their_parts,
        coalesce(whole.gaps, 0) as gaps,
        coalesce(whole.tokens, 0) as tokens,
        coalesce(whole.tokens_p05, 0) as tokens_p05,
        coalesce(whole.tokens_p95, 0) as tokens_p95,
        coalesce(parts.held_out, 0) as held_out,
        coalesce(parts.stray_parts, 0) as stray_parts,
        coalesce(parts.leaked_parts, 0) as leaked_parts,
        coalesce(parts.leak, '') as leak,
        (coalesce(expected.planned_parts, 0) - coalesce(parts.written_parts, 0))
            as generations_missing,
        (coalesce(expected.planned_documents, 0) - coalesce(parts.real_documents, 0))
            as documents_missing
    from names
    left join expected on names.layout = expected.layout
    left join parts on names.layout = parts.layout
    left join whole on names.layout = whole.layout
    order by names.layout
)

select * from final
