//! The state of a cluster as text.

use broker::cluster::status::{
    ClusterStatus, Code, Finding, Level, Liveness, MemberStatus, Part, StoreReport, TenantLoad,
};

use super::words::words;
use crate::doctor::size;
use crate::language::Language;
use crate::token::span;

/// Tenants and leases that are shown; `--json` has more.
const MOST_ROWS: usize = 20;

/// All of it: what is wrong last, where it is read first.
pub(super) fn text(status: &ClusterStatus, language: Language, color: bool) -> String {
    let page = Page { status, language };
    let mut out = String::new();
    if status.is_cluster {
        out.push_str(&page.head());
        out.push('\n');
        out.push_str(&aligned(&page.members()));
    } else {
        out.push_str(&page.alone());
    }
    for table in [page.stores(), page.leases(), page.tenants()] {
        if table.len() > 1 {
            out.push('\n');
            out.push_str(&aligned(&table));
        }
    }
    out.push('\n');
    out.push_str(&page.findings(color));
    out
}

struct Page<'a> {
    status: &'a ClusterStatus,
    language: Language,
}

impl Page<'_> {
    fn say(&self, en: &str, zh: &str) -> String {
        match self.language {
            Language::En => en.to_owned(),
            Language::Zh => zh.to_owned(),
        }
    }

    fn titles(&self, titles: &[(&str, &str)]) -> Vec<String> {
        titles.iter().map(|(en, zh)| self.say(en, zh)).collect()
    }

    fn head(&self) -> String {
        let status = self.status;
        let consensus = status.consensus.clone().unwrap_or_default();
        let leader =
            status.members.iter().find(|member| Some(&member.id) == consensus.leader.as_ref());
        let leader = leader.map_or_else(|| self.say("none", "无"), |leader| leader.name.clone());
        let (brokers, term, last) = (status.members.len(), consensus.term, consensus.last_index);
        let (voters, alive) = (consensus.voters, consensus.voters_alive);
        let (segments, blocks) = (status.segments, status.blocks);
        let (segment_bytes, block_bytes) = (size(segments.bytes), size(blocks.bytes));
        let (segments, blocks, ring) = (segments.count, blocks.count, status.ring_epoch);
        match self.language {
            Language::En => format!(
                "brokers   {brokers}, {alive} of {voters} voters live\n\
                 leader    {leader}, term {term}, entry {last}\n\
                 data      {segments} segments in no block ({segment_bytes}), {blocks} blocks ({block_bytes})\n\
                 ring      epoch {ring}\n"
            ),
            Language::Zh => format!(
                "broker    {brokers} 个，{voters} 个投票者中存活 {alive} 个\n\
                 领导者    {leader}，任期 {term}，记录 {last}\n\
                 数据      {segments} 个未成块的段（{segment_bytes}），{blocks} 个块（{block_bytes}）\n\
                 环        版本 {ring}\n"
            ),
        }
    }

    /// One machine, and how it becomes a cluster.
    fn alone(&self) -> String {
        let (count, size) = (self.status.blocks.count, size(self.status.blocks.bytes));
        match self.language {
            Language::En => format!(
                "This is one machine, with {count} blocks ({size}).\n\n\
                 To grow: three brokers and a store that all of them reach; docs/operating/cluster.md.\n  \
                 watchfire broker --data DIR --store s3://BUCKET/PREFIX --peer-listen 0.0.0.0:9596\n      \
                 founds a cluster; DIR is empty, and what this machine has stays where it is\n  \
                 watchfire token create --role broker\n      \
                 there: prints the command for each further broker\n"
            ),
            Language::Zh => format!(
                "这是单机，有 {count} 个块（{size}）。\n\n\
                 扩展：三个 broker 和一个都能访问的存储，见 docs/operating/cluster.md。\n  \
                 watchfire broker --data DIR --store s3://BUCKET/PREFIX --peer-listen 0.0.0.0:9596\n      \
                 建立集群；DIR 为空目录，本机已有数据留在原处\n  \
                 watchfire token create --role broker\n      \
                 在其上运行：打印加入下一个 broker 的命令\n"
            ),
        }
    }

    fn members(&self) -> Vec<Vec<String>> {
        let titles = [
            ("BROKER", "BROKER"),
            ("ADDRESS", "地址"),
            ("ZONE", "可用区"),
            ("STATE", "状态"),
            ("PART", "角色"),
            ("LAG", "落后"),
            ("RING", "环"),
            ("SEGMENTS", "段"),
            ("UNFLUSHED", "未落块"),
            ("VERSION", "版本"),
        ];
        let mut rows = vec![self.titles(&titles)];
        for member in &self.status.members {
            rows.push(vec![
                member.name.clone(),
                member.address.clone(),
                dash(&member.zone),
                self.state(member),
                self.part(member),
                member.lag_entries.map_or_else(|| "-".to_owned(), |lag| lag.to_string()),
                format!("{:.0} %", member.ring_share * 100.0),
                format!("{} ({})", member.segments.count, size(member.segments.bytes)),
                match member.unflushed_ms {
                    0 => "-".to_owned(),
                    ms => span(i64::try_from(ms).unwrap_or(i64::MAX)),
                },
                member.report.as_ref().map_or_else(|| "-".to_owned(), |told| dash(&told.version)),
            ]);
        }
        rows
    }

    fn state(&self, member: &MemberStatus) -> String {
        if member.has_left {
            return self.say("left", "已离开");
        }
        let silent = span(i64::try_from(member.silent_ms).unwrap_or(i64::MAX));
        match (member.liveness, member.is_draining) {
            (Liveness::Silent, _) => match self.language {
                Language::En => format!("silent {silent}"),
                Language::Zh => format!("无响应 {silent}"),
            },
            (_, true) => self.say("draining", "正在离开"),
            (Liveness::Alive, _) => self.say("alive", "存活"),
            (Liveness::Unknown, _) => self.say("unknown", "未知"),
        }
    }

    fn part(&self, member: &MemberStatus) -> String {
        if member.is_leader {
            return self.say("leader", "领导者");
        }
        match member.part {
            Part::Voter => self.say("voter", "投票者"),
            Part::Learner => self.say("learner", "学习者"),
            Part::None => "-".to_owned(),
        }
    }

    fn stores(&self) -> Vec<Vec<String>> {
        let titles = [
            ("STORE OF", "BROKER"),
            ("STORE", "存储"),
            ("REQUEST", "请求"),
            ("COUNT", "次数"),
            ("p50", "p50"),
            ("p99", "p99"),
            ("ERRORS", "错误"),
            ("CACHE", "缓存命中"),
        ];
        let mut rows = vec![self.titles(&titles)];
        for member in &self.status.members {
            for store in member.report.iter().flat_map(|report| &report.stores) {
                rows.extend(operations(&member.name, store));
            }
        }
        rows
    }

    fn leases(&self) -> Vec<Vec<String>> {
        let titles =
            [("LEASE", "租约"), ("HOLDER", "持有者"), ("TERM", "任期"), ("ENDS IN", "剩余")];
        let mut rows = vec![self.titles(&titles)];
        // That brokers live stands among the members.
        let jobs = self.status.leases.iter().filter(|lease| !lease.job.starts_with("broker/"));
        for lease in jobs.take(MOST_ROWS) {
            let holder =
                if lease.holder_name.is_empty() { &lease.holder } else { &lease.holder_name };
            rows.push(vec![
                lease.job.clone(),
                holder.clone(),
                lease.term.to_string(),
                span(lease.until_ms - self.status.now_ms),
            ]);
        }
        rows
    }

    fn tenants(&self) -> Vec<Vec<String>> {
        let titles = [("TENANT", "租户"), ("SAMPLES/s", "样本/秒"), ("SERIES", "序列")];
        let mut rows = vec![self.titles(&titles)];
        for TenantLoad { name, samples_per_second, active_series, .. } in
            self.status.tenants.iter().take(MOST_ROWS)
        {
            let rate =
                samples_per_second.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"));
            rows.push(vec![name.clone(), rate, active_series.to_string()]);
        }
        rows
    }

    fn findings(&self, color: bool) -> String {
        let mut out = String::new();
        for finding in self.status.findings.iter().filter(|finding| finding.code != "one_machine") {
            let (word, paint) = match finding.level {
                Level::Ok => ("  OK", "\x1b[32m"),
                Level::Warn => ("WARN", "\x1b[33m"),
                Level::Bad => ("FAIL", "\x1b[1;31m"),
            };
            let level = if color { format!("{paint}{word}\x1b[0m") } else { word.to_owned() };
            let (said, fix) = words(finding, self.language);
            out.push_str(&format!("{level}  {said}\n"));
            if !fix.is_empty() {
                out.push_str(&format!("      {fix}\n"));
            }
            if finding.code == Code::PartialAnswers.as_str() {
                out.push_str(&self.missing(finding));
            }
        }
        if out.is_empty() {
            out = self.say("Nothing is wrong.\n", "一切正常。\n");
        }
        out
    }

    /// What the broker of a finding cannot read, by name, so that it can be restored.
    fn missing(&self, finding: &Finding) -> String {
        let name = finding.values.get("name").and_then(serde_json::Value::as_str);
        let member = self.status.members.iter().find(|member| Some(member.name.as_str()) == name);
        let Some(report) = member.and_then(|member| member.report.as_ref()) else {
            return String::new();
        };
        let mut out = String::new();
        for what in &report.missing {
            out.push_str(&format!("      - {what}\n"));
        }
        match report.missing_count.saturating_sub(report.missing.len() as u64) {
            0 => {}
            more => {
                let more = match self.language {
                    Language::En => format!("      … and {more} more\n"),
                    Language::Zh => format!("      … 另有 {more} 处\n"),
                };
                out.push_str(&more);
            }
        }
        out
    }
}

fn operations(broker: &str, store: &StoreReport) -> Vec<Vec<String>> {
    let ms = |ms: Option<u64>| ms.map_or_else(|| "> 15 s".to_owned(), |ms| format!("≤ {ms} ms"));
    // Of the local disk, and where others gave some, of theirs.
    let cache = store.cache.filter(|cache| cache.hits + cache.misses > 0).map(|cache| {
        let share = |part: u64| part as f64 * 100.0 / (cache.hits + cache.misses) as f64;
        match cache.neighbours {
            0 => format!("{:.0} %", share(cache.hits)),
            others => format!("{:.0} % + {:.0} %", share(cache.hits), share(others)),
        }
    });
    let row = |operation: &broker::cluster::status::OperationReport| {
        let errors: Vec<String> =
            operation.errors.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        vec![
            broker.to_owned(),
            store.store.clone(),
            operation.operation.clone(),
            operation.requests.to_string(),
            ms(operation.p50_ms),
            ms(operation.p99_ms),
            dash(&errors.join(", ")),
            cache.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    };
    store.operations.iter().map(row).collect()
}

fn dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// Columns as wide as their widest cell, as terminals show it, two blanks between.
fn aligned(rows: &[Vec<String>]) -> String {
    let width = |text: &str| ratatui::text::Line::raw(text).width();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max();
    let widths: Vec<usize> = (0..columns).map(|column| widest(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let cells: Vec<String> =
            cells.map(|(cell, wide)| format!("{cell}{}", " ".repeat(wide - width(cell)))).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    fn check(status: serde_json::Value, language: Language, expected: &Expect) {
        let status: ClusterStatus = serde_json::from_value(status).expect("a state");
        expected.assert_eq(&text(&status, language, false));
    }

    fn cluster() -> serde_json::Value {
        let put = json!({
            "operation": "put", "requests": 240, "p50Ms": 25, "p99Ms": 250, "errors": { "busy": 2 },
        });
        let store = json!({
            "store": "truth", "operations": [put], "cache": { "hits": 90, "misses": 10, "bytes": 5 },
        });
        json!({
            "isCluster": true,
            "verdict": "bad",
            "asked": "01",
            "nowMs": 1_000_000,
            "consensus": {
                "leader": "01", "term": 4, "lastIndex": 900, "voters": 3, "votersAlive": 2,
                "majority": 2,
            },
            "members": [
                {
                    "id": "01", "name": "b1", "address": "h1:9596", "zone": "a", "liveness": "alive",
                    "part": "voter", "isLeader": true, "lagEntries": 0, "ringShare": 0.51,
                    "segments": { "count": 3, "bytes": 2_097_152 }, "unflushedMs": 61_000,
                    "report": { "version": "1.2.0", "stores": [store] },
                },
                {
                    "id": "02", "name": "b2", "address": "h2:9596", "liveness": "silent",
                    "silentMs": 42_000, "part": "voter", "ofTheFuture": 1,
                },
                {
                    "id": "03", "name": "b3", "address": "h3:9596", "liveness": "alive",
                    "isDraining": true, "part": "learner", "lagEntries": 7, "ringShare": 0.49,
                },
            ],
            "ringEpoch": 5,
            "leases": [
                { "job": "broker/01", "holder": "01", "term": 1, "untilMs": 1_004_000 },
                {
                    "job": "merge", "holder": "01", "holderName": "b1", "term": 8,
                    "untilMs": 1_030_000,
                },
            ],
            "segments": { "count": 3, "bytes": 2_097_152 },
            "blocks": { "count": 44, "bytes": 3_221_225_472_u64 },
            "tenants": [{ "name": "default", "samplesPerSecond": 1_234.5, "activeSeries": 99 }],
            "findings": [{
                "code": "voter_away", "level": "bad",
                "values": { "name": "b2", "seconds": 42, "alive": 2, "voters": 3, "majority": 2 },
            }],
        })
    }

    #[test]
    fn a_cluster_is_told_as_a_whole_and_what_is_wrong_with_its_remedy() {
        check(
            cluster(),
            Language::En,
            &expect![[r#"
            brokers   3, 2 of 3 voters live
            leader    b1, term 4, entry 900
            data      3 segments in no block (2.0 MiB), 44 blocks (3.0 GiB)
            ring      epoch 5

            BROKER  ADDRESS  ZONE  STATE        PART     LAG  RING  SEGMENTS     UNFLUSHED  VERSION
            b1      h1:9596  a     alive        leader   0    51 %  3 (2.0 MiB)  61 s       1.2.0
            b2      h2:9596  -     silent 42 s  voter    -    0 %   0 (0 B)      -          -
            b3      h3:9596  -     draining     learner  7    49 %  0 (0 B)      -          -

            STORE OF  STORE  REQUEST  COUNT  p50      p99       ERRORS  CACHE
            b1        truth  put      240    ≤ 25 ms  ≤ 250 ms  2 busy  90 %

            LEASE  HOLDER  TERM  ENDS IN
            merge  b1      8     30 s

            TENANT   SAMPLES/s  SERIES
            default  1234       99

            FAIL  The voter b2 has been silent for 42 s: 2 of 3 voters live, 2 are needed
                  Start it again, or look at its network. If it does not come back, a broker that only listens takes its place; start another one if there is none.
        "#]],
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let report = json!({ "missing": ["segment 7 (object segments/b1/7)"], "missingCount": 3 });
        let status = json!({
            "members": [{ "name": "b1", "report": report }],
            "findings": [{
                "code": "partial_answers", "level": "bad",
                "values": { "name": "b1", "count": 3, "what": "segment 7" },
            }],
        });
        let status = ClusterStatus::deserialize(&status).expect("a status");
        let told = text(&status, Language::En, false);
        assert!(told.contains("\n      - segment 7 (object segments/b1/7)\n"), "{told}");
        assert!(told.contains("… and 2 more"), "{told}");
        assert!(text(&status, Language::Zh, false).contains("另有 2 处"));
    }

    #[test]
    fn columns_stand_below_each_other_in_chinese() {
        check(
            cluster(),
            Language::Zh,
            &expect![[r#"
            broker    3 个，3 个投票者中存活 2 个
            领导者    b1，任期 4，记录 900
            数据      3 个未成块的段（2.0 MiB），44 个块（3.0 GiB）
            环        版本 5

            BROKER  地址     可用区  状态         角色    落后  环    段           未落块  版本
            b1      h1:9596  a       存活         领导者  0     51 %  3 (2.0 MiB)  61 s    1.2.0
            b2      h2:9596  -       无响应 42 s  投票者  -     0 %   0 (0 B)      -       -
            b3      h3:9596  -       正在离开     学习者  7     49 %  0 (0 B)      -       -

            BROKER  存储   请求  次数  p50      p99       错误    缓存命中
            b1      truth  put   240   ≤ 25 ms  ≤ 250 ms  2 busy  90 %

            租约   持有者  任期  剩余
            merge  b1      8     30 s

            租户     样本/秒  序列
            default  1234     99

            FAIL  投票者 b2 已 42 秒没有响应：3 个投票者中存活 2 个，需要 2 个
                  请重新启动它，或检查它的网络。如果它不再回来，由一个学习者代替它；若没有学习者，请再启动一个 broker。
        "#]],
        );
    }

    #[test]
    fn one_machine_is_told_how_to_grow() {
        let alone = json!({ "findings": [{ "code": "one_machine", "level": "ok" }] });
        check(
            alone,
            Language::En,
            &expect![[r#"
            This is one machine, with 0 blocks (0 B).

            To grow: three brokers and a store that all of them reach; docs/operating/cluster.md.
              watchfire broker --data DIR --store s3://BUCKET/PREFIX --peer-listen 0.0.0.0:9596
                  founds a cluster; DIR is empty, and what this machine has stays where it is
              watchfire token create --role broker
                  there: prints the command for each further broker

            Nothing is wrong.
        "#]],
        );
    }
}
