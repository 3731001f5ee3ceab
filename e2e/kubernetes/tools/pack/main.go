// Packs static programs into an image, as an OCI archive that containerd imports: no container engine is needed.
//
//	pack [-user UID] OUT.tar NAME:TAG ENTRYPOINT PATH=FILE...
//
// The image has one layer: the files, each executable, and an empty /tmp.
package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path"
	"runtime"
	"strings"
)

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type config struct {
	Architecture string         `json:"architecture"`
	OS           string         `json:"os"`
	Config       map[string]any `json:"config"`
	RootFS       map[string]any `json:"rootfs"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	Manifests     []descriptor `json:"manifests"`
}

const (
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
)

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func describe(mediaType string, data []byte) descriptor {
	return descriptor{MediaType: mediaType, Digest: "sha256:" + digest(data), Size: len(data)}
}

// layer holds each file at its path, every folder above it, and /tmp.
func layer(files []string) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	made := map[string]bool{".": true}
	var folder func(name string, mode int64) error
	folder = func(name string, mode int64) error {
		if made[name] {
			return nil
		}
		made[name] = true
		if err := folder(path.Dir(name), 0o755); err != nil {
			return err
		}
		return w.WriteHeader(&tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: mode})
	}
	if err := folder("tmp", 0o1777); err != nil {
		return nil, err
	}
	for _, file := range files {
		to, from, ok := strings.Cut(file, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not PATH=FILE", file)
		}
		data, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		to = strings.TrimPrefix(path.Clean(to), "/")
		if err := folder(path.Dir(to), 0o755); err != nil {
			return nil, err
		}
		if err := w.WriteHeader(&tar.Header{Name: to, Mode: 0o755, Size: int64(len(data))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}

func pack(out, name, user, entrypoint string, files []string) error {
	_, tag, ok := strings.Cut(path.Base(name), ":")
	if !ok {
		return fmt.Errorf("%q is not NAME:TAG", name)
	}
	layerData, err := layer(files)
	if err != nil {
		return err
	}
	configData, err := json.Marshal(config{
		Architecture: runtime.GOARCH,
		OS:           "linux",
		Config: map[string]any{
			"Entrypoint": []string{entrypoint},
			"Env":        []string{"PATH=/usr/local/bin"},
			"User":       user,
		},
		RootFS: map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest(layerData)}},
	})
	if err != nil {
		return err
	}
	manifestData, err := json.Marshal(manifest{
		SchemaVersion: 2,
		MediaType:     typeManifest,
		Config:        describe(typeConfig, configData),
		Layers:        []descriptor{describe(typeLayer, layerData)},
	})
	if err != nil {
		return err
	}
	entry := describe(typeManifest, manifestData)
	entry.Annotations = map[string]string{
		"io.containerd.image.name":          name,
		"org.opencontainers.image.ref.name": tag,
	}
	indexData, err := json.Marshal(index{SchemaVersion: 2, Manifests: []descriptor{entry}})
	if err != nil {
		return err
	}

	// Written beside its place and renamed: whoever imports it never sees half of it.
	file, err := os.Create(out + ".new")
	if err != nil {
		return err
	}
	defer file.Close()
	w := tar.NewWriter(file)
	for _, part := range []struct {
		name string
		data []byte
	}{
		{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{"index.json", indexData},
		{"blobs/sha256/" + digest(layerData), layerData},
		{"blobs/sha256/" + digest(configData), configData},
		{"blobs/sha256/" + digest(manifestData), manifestData},
	} {
		if err := w.WriteHeader(&tar.Header{Name: part.name, Mode: 0o644, Size: int64(len(part.data))}); err != nil {
			return err
		}
		if _, err := w.Write(part.data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.Rename(out+".new", out)
}

func main() {
	user := flag.String("user", "65532:65532", "who the program runs as")
	flag.Parse()
	args := flag.Args()
	if len(args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: pack [-user UID] OUT.tar NAME:TAG ENTRYPOINT PATH=FILE...")
		os.Exit(2)
	}
	if err := pack(args[0], args[1], *user, args[2], args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}
