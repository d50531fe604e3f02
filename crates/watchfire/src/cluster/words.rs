//! What the state of a cluster says, in words. The pages have the same ones.

use broker::cluster::status::Finding;
use serde_json::Value;

use crate::language::Language;

/// What is said of a finding, and what to do, each in English and Chinese; `{name}` is filled in.
struct Words {
    code: &'static str,
    said: (&'static str, &'static str),
    fix: (&'static str, &'static str),
}

/// What a finding says, and what to do about it; that may be empty.
pub(super) fn words(finding: &Finding, language: Language) -> (String, String) {
    let Some(words) = WORDS.iter().find(|words| words.code == finding.code) else {
        // Of a newer server.
        let values = serde_json::to_string(&finding.values).unwrap_or_default();
        return (format!("{} {values}", finding.code), String::new());
    };
    let kind = finding.values.get("kind").and_then(Value::as_str);
    let by_kind = kind.and_then(|kind| STORE_REMEDIES.iter().find(|(known, ..)| *known == kind));
    let fix = match by_kind {
        Some((_, en, zh)) => chosen((en, zh), language),
        None => chosen(words.fix, language),
    };
    (fill(chosen(words.said, language), finding), fill(fix, finding))
}

fn chosen(texts: (&'static str, &'static str), language: Language) -> &'static str {
    match language {
        Language::En => texts.0,
        Language::Zh => texts.1,
    }
}

fn fill(text: &str, finding: &Finding) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        let Some((name, after)) = behind.split_once('}') else { break };
        out.push_str(before);
        match finding.values.get(name) {
            Some(Value::String(value)) => out.push_str(value),
            Some(value) => out.push_str(&value.to_string()),
            None => out.push_str(&format!("{{{name}}}")),
        }
        rest = after;
    }
    out + rest
}

#[rustfmt::skip]
/// All that [`broker::cluster::status::Code`] has.
const WORDS: &[Words] = &[
    Words {
        code: "one_machine",
        said: ("This is one machine: its data lies on its own disk", "这是单机：数据保存在自己的磁盘上"),
        fix: ("Nothing has to be done. To go on when a machine is lost, let three brokers share a store.", "无需处理。若要在丢失一台机器后继续运行，请让三个 broker 共用一个存储。"),
    },
    Words {
        code: "consensus_stopped",
        said: ("The part of this broker in the consensus has stopped: {reason}", "此 broker 的共识部分已停止：{reason}"),
        fix: ("Look at its disk, then restart it. The others go on without it.", "请检查它的磁盘，然后重启。其他 broker 会继续运行。"),
    },
    Words {
        code: "no_leader",
        said: ("No broker leads: {alive} of {voters} voters are known to live, and {majority} are needed. No writes are taken; what is stored can be read", "没有领导者：{voters} 个投票者中已知存活 {alive} 个，需要 {majority} 个。目前不接受写入，已存数据仍可查询"),
        fix: ("Start brokers that stand, and see that they reach each other at their peer ports. Agents keep what they collect and send it then. Where a login is needed, nobody is let in after 30 s but by the local token on a broker’s host.", "请启动停止的 broker，并确认它们能互相访问对方的 peer 端口。agent 会保留采集的数据，恢复后再发送。需要登录时，30 秒后只有 broker 主机上的本地令牌才能进入。"),
    },
    Words {
        code: "voter_away",
        said: ("The voter {name} has been silent for {seconds} s: {alive} of {voters} voters live, {majority} are needed", "投票者 {name} 已 {seconds} 秒没有响应：{voters} 个投票者中存活 {alive} 个，需要 {majority} 个"),
        fix: ("Start it again, or look at its network. If it does not come back, a broker that only listens takes its place; start another one if there is none.", "请重新启动它，或检查它的网络。如果它不再回来，由一个学习者代替它；若没有学习者，请再启动一个 broker。"),
    },
    Words {
        code: "no_fault_tolerance",
        said: ("No voter may be lost: {alive} of {voters} live, and {majority} are needed for writes", "不能再失去任何投票者：{voters} 个中存活 {alive} 个，写入需要 {majority} 个"),
        fix: ("Have three brokers, or five. `watchfire token create --role broker` prints the command for the next one.", "请运行三个或五个 broker。`watchfire token create --role broker` 会打印加入下一个的命令。"),
    },
    Words {
        code: "even_voters",
        said: ("{voters} voters survive the loss of no more brokers than one voter less would", "{voters} 个投票者能承受的故障数并不比少一个时更多"),
        fix: ("Add one broker: an odd number of voters is of more use.", "请再加一个 broker：投票者数目为奇数更有用。"),
    },
    Words {
        code: "zone_majority",
        said: ("The zone {zone} has {count} of {voters} voters: when it fails, nothing is taken any more", "可用区 {zone} 拥有 {voters} 个投票者中的 {count} 个：它一旦故障就不再接受写入"),
        fix: ("Start a broker in a zone that has fewer voters, so that votes can be spread.", "请在投票者较少的可用区启动一个 broker，使投票者分散开。"),
    },
    Words {
        code: "broker_silent",
        said: ("The broker {name} has been silent for {seconds} s. What it took last, {segments} segments, is read from the store", "broker {name} 已 {seconds} 秒没有响应。它最后接收的数据（{segments} 个段）从存储中读取"),
        fix: ("Nothing is lost, queries only take longer. Start it again. If it is gone for good, another one makes blocks of its segments within minutes; then take it out, on the Cluster page or by `watchfire drain --lost {name}`.", "没有数据丢失，只是查询变慢。请重新启动它。如果它永远不会回来，几分钟内会有其他 broker 把它的段写成块；之后请在集群页移除它，或运行 `watchfire drain --lost {name}`。"),
    },
    Words {
        code: "broker_unreachable",
        said: ("The broker {name} lives, but does not answer this one at {address}: {reason}", "broker {name} 存活，但在 {address} 不回应此 broker：{reason}"),
        fix: ("Let brokers reach each other at their peer ports in both directions; check firewalls and the address it was given.", "请让 broker 之间双向都能访问 peer 端口；检查防火墙和给它的地址。"),
    },
    Words {
        code: "broker_draining",
        said: ("The broker {name} gives up its work and leaves when everything it wrote is in blocks: {segments} segments are left", "broker {name} 正在交出工作，全部写成块后离开：还剩 {segments} 个段"),
        fix: ("Wait; it ends by itself.", "请等待，它会自行结束。"),
    },
    Words {
        code: "drain_stuck",
        said: ("The broker {name} does not get on with leaving: {why}", "broker {name} 的退出过程没有进展：{why}"),
        fix: ("It goes on trying and loses nothing. See what the text says, mostly of the store; or restart it, which takes it back in.", "它会继续重试，不会丢失数据。请查看上文（多与存储有关）；或者重启它，使其恢复工作。"),
    },
    Words {
        code: "broker_left",
        said: ("{name} has left, and the consensus still counts it", "{name} 已离开，但共识中仍计入它"),
        fix: ("Nothing has to be done while it leaves. If its process is gone, take its vote away, on the Cluster page or by `watchfire drain --lost {name}`.", "离开过程中无需处理。如果它的进程已不在，请在集群页收回它的投票，或运行 `watchfire drain --lost {name}`。"),
    },
    Words {
        code: "consensus_lag",
        said: ("The catalog of {name} is {entries} entries behind", "{name} 的目录落后 {entries} 条记录"),
        fix: ("Look at the load of its disk and its processor, and at the network between it and the leader.", "请检查它的磁盘和处理器负载，以及它与领导者之间的网络。"),
    },
    Words {
        code: "segments_unflushed",
        said: ("Segments of {name} have waited for {seconds} s to become blocks: {segments} of them", "{name} 的段等待写成块已 {seconds} 秒：共 {segments} 个"),
        fix: ("See whether the store takes writes, and what its log says of flushes. Until then a start takes longer.", "请检查存储是否接受写入，以及日志中关于落块的信息。在此之前，启动会变慢。"),
    },
    Words {
        code: "segments_near_limit",
        said: ("{name} has {segments} segments that are in no block, and at most {limit} are taken", "{name} 有 {segments} 个未写成块的段，上限为 {limit}"),
        fix: ("See what its log says of flushes, and whether the store takes blocks: at the limit it refuses writes.", "请查看日志中关于落块的信息，以及存储是否接受块：到达上限后它会拒绝写入。"),
    },
    Words {
        code: "store_errors",
        said: ("The store “{store}” failed {name} {count} times in the last minute, of {requests} requests: {kind} ({operation})", "存储“{store}”在最近一分钟对 {name} 的 {requests} 个请求中失败 {count} 次：{kind}（{operation}）"),
        fix: ("", ""),
    },
    Words {
        code: "store_slow",
        said: ("The store “{store}” is slow for {name}: one write in a hundred takes {seconds} s or more", "存储“{store}”对 {name} 较慢：每百次写入有一次需要 {seconds} 秒以上"),
        fix: ("Senders wait as long for their answer. Look at the load of the store, and at the network to it.", "发送方要等同样久才得到答复。请检查存储的负载和到它的网络。"),
    },
    Words {
        code: "cache_away",
        said: ("{name} leaves {count} nodes of the shared cache alone for now: {why}", "{name} 暂时不使用共享缓存的 {count} 个节点：{why}"),
        fix: ("Answers are right without it and take longer. See whether that Redis runs, and its load; it is used again by itself.", "没有它结果仍然正确，只是更慢。请检查该 Redis 是否在运行及其负载；恢复后会自动重新使用。"),
    },
    Words {
        code: "version_skew",
        said: ("Brokers run different versions: {versions}", "broker 的版本不同：{versions}"),
        fix: ("Finish the upgrade: restart those that are older, one by one. The cluster uses what all know.", "请完成升级：逐个重启较旧的 broker。集群只使用所有 broker 都支持的功能。"),
    },
    Words {
        code: "clock_skew",
        said: ("The clock of {name} differs from that of this broker by {milliseconds} ms", "{name} 的时钟与此 broker 相差 {milliseconds} 毫秒"),
        fix: ("Set the clocks by NTP: samples get wrong times, and from a minute on a broker merges and removes nothing.", "请用 NTP 校准时钟：否则样本时间不准；相差超过一分钟时，该 broker 不再合并和清理。"),
    },
    Words {
        code: "retention_rules_differ",
        said: ("Brokers have different storage.retention_rules, and each removes for all what its own say: {rules}", "各 broker 的 storage.retention_rules 不同，而每个 broker 都按自己的规则为所有 broker 删除数据：{rules}"),
        fix: ("Give all brokers the same rules and reload each: what one of them matches is gone for all once it is merged.", "请给所有 broker 相同的规则并逐个重新加载：任何一个 broker 的规则所匹配的数据，合并之后对所有 broker 都不复存在。"),
    },
    Words {
        code: "alerting_differs",
        said: ("Brokers have different rules or configurations of notifications, and whoever notifies goes by its own: {files}", "各 broker 的规则或通知配置不同，而负责通知的 broker 按自己的文件工作：{files}"),
        fix: ("Give all brokers the same files of rules, the same alertmanager.yml and the same keys rules and alertmanager, and reload each.", "请给所有 broker 相同的规则文件、相同的 alertmanager.yml 以及相同的 rules 和 alertmanager 配置，并逐个重新加载。"),
    },
    Words {
        code: "partial_answers",
        said: ("{name} cannot read everything, so answers are marked as partial: {what} ({count} in all)", "{name} 有数据无法读取，因此结果标为不完整：{what}（共 {count} 处）"),
        fix: ("Restore what is named from a snapshot, or delete that time. What could be read is in the answers.", "请从快照恢复所列内容，或删除那段时间。可读的数据都在结果中。"),
    },
    Words {
        code: "tenant_near_limit",
        said: ("The tenant {tenant} has {series} series of {limit} that it may have", "租户 {tenant} 有 {series} 个序列，上限为 {limit}"),
        fix: ("Look at the Cardinality page, or raise limits.max_active_series: at the limit new series are refused.", "请查看基数页，或提高 limits.max_active_series：到达上限后拒绝新序列。"),
    },
    Words {
        code: "no_active_broker",
        said: ("All brokers that live are about to leave: they take no writes, and nobody merges, scrapes or removes anything", "所有存活的 broker 都在准备离开：它们不接受写入，也没有谁负责合并、抓取和清理"),
        fix: ("Restart one of them: a start before it has left takes it back in. Or let a new broker join.", "请重启其中一个：离开之前重新启动会让它恢复工作。或者让新的 broker 加入。"),
    },
];

/// By kind of error, as `docs/operating/stores.md` has them: English, Chinese.
#[rustfmt::skip]
const STORE_REMEDIES: &[(&str, &str, &str)] = &[
    ("credentials", "Renew the credentials of the store and see that the process gets them.", "请更新存储的凭证，并确认进程能得到它们。"),
    ("permission", "Allow the credentials to read, write, list and delete below the prefix.", "请允许该凭证在前缀下读取、写入、列出和删除。"),
    ("clock", "Set the clock of that machine.", "请校准该机器的时钟。"),
    ("bucket", "Create the bucket, or correct its name.", "请创建存储桶，或改正它的名称。"),
    ("place", "Correct endpoint, region or path_style in the URL of the store.", "请改正存储 URL 中的 endpoint、region 或 path_style。"),
    ("full", "Free space in the store, raise its quota, or lower the retention.", "请在存储中腾出空间、提高配额，或缩短保留时间。"),
    ("read_only", "Let the store take writes again.", "请让存储重新接受写入。"),
    ("busy", "Raise the store’s limit of requests, or send it less.", "请提高存储的请求上限，或减少请求。"),
    ("unreachable", "Check the URL of the store, the network, and whether it runs.", "请检查存储的 URL、网络，以及它是否在运行。"),
    ("failed", "See the store’s own log.", "请查看存储自身的日志。"),
    ("late", "Check the network and the load of the store.", "请检查网络和存储的负载。"),
    ("unknown", "Nothing is lost: the senders were told, and what may have been written is removed later.", "没有数据丢失：发送方已得到通知，可能写入的内容之后会被清除。"),
    ("damaged", "Restore the object that the log names.", "请恢复日志中所指的对象。"),
    ("too_large", "This is a fault of the program: report it with the log.", "这是程序的缺陷：请附上日志报告。"),
    ("refused", "See the store’s own log.", "请查看存储自身的日志。"),
    ("settings", "Do what the log says of the URL or the file system.", "请按日志中关于 URL 或文件系统的说明处理。"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use broker::cluster::status::Code;
    use serde_json::json;

    use super::*;

    fn placeholders(text: &str) -> BTreeSet<&str> {
        text.split('{').skip(1).filter_map(|part| part.split('}').next()).collect()
    }

    #[test]
    fn every_finding_has_words_in_both_languages() {
        let known: Vec<&str> = WORDS.iter().map(|words| words.code).collect();
        let all: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(known, all);
        for words in WORDS {
            let Words { code, said, fix } = words;
            assert_eq!(placeholders(said.0), placeholders(said.1), "{code}");
            assert_eq!(placeholders(fix.0), placeholders(fix.1), "{code}");
            assert_eq!(fix.0.is_empty(), *code == "store_errors", "{code}");
        }
    }

    #[test]
    fn values_are_filled_in_and_stores_have_a_remedy_by_kind() {
        let values = json!({
            "kind": "full", "store": "truth", "name": "b1", "count": 2, "requests": 9,
            "operation": "put",
        });
        let values = values.as_object().expect("an object").clone().into_iter().collect();
        let finding = Finding { code: "store_errors".to_owned(), values, ..Finding::default() };
        let (said, fix) = words(&finding, Language::En);
        assert_eq!(
            said,
            "The store “truth” failed b1 2 times in the last minute, of 9 requests: full (put)"
        );
        assert!(fix.starts_with("Free space"), "{fix}");
        assert!(words(&finding, Language::Zh).1.contains("配额"));
        let newer = Finding { code: "moon_phase".to_owned(), ..Finding::default() };
        assert_eq!(words(&newer, Language::En).0, "moon_phase {}");
    }
}
