# One image FROM scratch: etcd, etcdutl and etcd-operator, linked statically. e2e/kubernetes/images.sh packs the same layout without an engine.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN make build && mkdir -p /out/usr/local/bin /out/tmp && chmod 1777 /out/tmp \
 && for program in etcd etcdutl etcd-operator; do \
      strip -o /out/usr/local/bin/$program target/"$(uname -m)"-unknown-linux-gnu/release/$program || exit 1; \
    done

FROM scratch
COPY --from=build /out/ /
ENV PATH=/usr/local/bin
USER 65532:65532
EXPOSE 2379 2380 2381
ENTRYPOINT ["/usr/local/bin/etcd"]
