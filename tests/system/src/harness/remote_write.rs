//! Bodies of remote write 1.0, built by hand so that they can also be wrong.

/// A `prometheus.WriteRequest` in the making.
#[derive(Debug, Clone, Default)]
pub(crate) struct WriteBody {
    message: Vec<u8>,
}

impl WriteBody {
    /// An empty request.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a series with labels in the given order, unchecked, and its samples
    /// (milliseconds, value).
    pub(crate) fn series(
        mut self,
        labels: &[(impl AsRef<[u8]>, impl AsRef<[u8]>)],
        samples: &[(i64, f64)],
    ) -> Self {
        let mut series = Vec::new();
        for (name, value) in labels {
            let mut label = Vec::new();
            push_bytes(&mut label, 1, name.as_ref());
            push_bytes(&mut label, 2, value.as_ref());
            push_bytes(&mut series, 1, &label);
        }
        for &(t_ms, value) in samples {
            let mut sample = vec![0x09];
            sample.extend_from_slice(&value.to_bits().to_le_bytes());
            sample.push(0x10);
            // Not zigzag: a negative time takes ten bytes.
            push_varint(&mut sample, t_ms.cast_unsigned());
            push_bytes(&mut series, 2, &sample);
        }
        push_bytes(&mut self.message, 1, &series);
        self
    }

    /// Adds a series of native histograms (milliseconds, counts of neighbouring buckets).
    pub(crate) fn histograms(
        mut self,
        labels: &[(&str, &str)],
        samples: &[(i64, Vec<i64>)],
    ) -> Self {
        let zigzag = |number: i64| (number << 1 ^ number >> 63).cast_unsigned();
        let mut series = Vec::new();
        for (name, value) in labels {
            let mut label = Vec::new();
            push_bytes(&mut label, 1, name.as_bytes());
            push_bytes(&mut label, 2, value.as_bytes());
            push_bytes(&mut series, 1, &label);
        }
        for (t_ms, counts) in samples {
            let mut histogram = vec![0x08];
            push_varint(&mut histogram, counts.iter().sum::<i64>().cast_unsigned());
            histogram.push(0x19);
            histogram.extend_from_slice(&(counts.len() as f64).to_bits().to_le_bytes());
            // Schema 1, no zero bucket, one span from bucket 0 on, counts as differences.
            histogram.extend_from_slice(&[0x20, 2, 0x30, 0]);
            let mut span = vec![0x08, 0, 0x10];
            push_varint(&mut span, counts.len() as u64);
            push_bytes(&mut histogram, 11, &span);
            let mut deltas = Vec::new();
            let mut before = 0;
            for &count in counts {
                push_varint(&mut deltas, zigzag(count - before));
                before = count;
            }
            push_bytes(&mut histogram, 12, &deltas);
            histogram.push(0x78);
            push_varint(&mut histogram, t_ms.cast_unsigned());
            push_bytes(&mut series, 4, &histogram);
        }
        push_bytes(&mut self.message, 1, &series);
        self
    }

    /// The protobuf message.
    pub(crate) fn message(&self) -> &[u8] {
        &self.message
    }

    /// The message as it goes over the wire.
    pub(crate) fn snappy(&self) -> Vec<u8> {
        snappy(&self.message)
    }
}

/// Any bytes in snappy's block format.
pub(crate) fn snappy(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).expect("test bodies are below 4 GiB")
}

pub(crate) fn push_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn push_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
