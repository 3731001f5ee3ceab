{{- define "etcd-operator.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "etcd-operator.selector" -}}
app.kubernetes.io/name: etcd-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "etcd-operator.labels" -}}
{{ include "etcd-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{- define "etcd-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "etcd-operator.fullname" .) -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "etcd-operator.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* What the operator does in the namespaces it serves: the table in src/controller/rbac.rs, which a test compares. */}}
{{- define "etcd-operator.rules" -}}
- apiGroups: [etcd-core.io]
  resources: [etcdclusters]
  verbs: [get, list, watch]
- apiGroups: [etcd-core.io]
  resources: [etcdclusters/status]
  verbs: [patch]
- apiGroups: [etcd-core.io]
  resources: [etcdbackups]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [etcd-core.io]
  resources: [etcdbackupschedules, etcdrestores]
  verbs: [get, list, watch]
- apiGroups: [etcd-core.io]
  resources: [etcdbackups/status, etcdbackupschedules/status, etcdrestores/status]
  verbs: [patch]
- apiGroups: [apps]
  resources: [statefulsets, deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch, delete]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch, delete]
- apiGroups: [cert-manager.io]
  resources: [certificates]
  verbs: [get, create, patch]
- apiGroups: [cert-manager.io]
  resources: [issuers, clusterissuers]
  verbs: [get]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* What runs of backups may use in the namespace is what a pod may use: config/policy/backups.yaml and a test know the same. */}}
{{- define "etcd-operator.runsPolicy" -}}
failurePolicy: Fail
matchConstraints:
  resourceRules:
    - apiGroups: [etcd-core.io]
      apiVersions: ["*"]
      operations: [CREATE, UPDATE]
      resources: [etcdbackups, etcdbackupschedules, etcdrestores, etcdclusters]
matchConditions:
  # An edit that leaves it alone asks for nothing new.
  - name: spec-changes
    expression: request.operation == "CREATE" || oldObject.spec != object.spec
  # What a schedule makes was allowed when the schedule was.
  - name: not-the-operator
    expression: request.userInfo.username != "system:serviceaccount:{{ .Release.Namespace }}:{{ include "etcd-operator.serviceAccount" . }}"
variables:
  - name: run
    expression: 'object.kind == "EtcdBackupSchedule" ? dyn(object.spec.template.spec) : dyn(object.spec)'
  - name: source
    expression: >-
      has(variables.run.source) ? dyn(variables.run.source) :
      has(variables.run.bootstrap) && has(variables.run.bootstrap.restore) ? dyn(variables.run.bootstrap.restore.from) :
      has(variables.run.destination) ? dyn(variables.run.destination) : dyn({})
  - name: powers
    expression: >-
      (has(variables.run.job) && has(variables.run.job.serviceAccountName) ? ["job.serviceAccountName"] : []) +
      (has(variables.source.persistentVolumeClaim) ? ["persistentVolumeClaim"] : [])
validations:
  - expression: >-
      variables.powers.size() == 0 ||
      authorizer.group("").resource("pods").namespace(request.namespace).check("create").allowed()
    reason: Forbidden
    messageExpression: >-
      variables.powers[0] + " may be set by those who may create pods in the namespace " +
      request.namespace + "; " + request.userInfo.username + " may not"
{{- end -}}

{{/* The fields listed are harmless: config/policy/policy.yaml and a test know the same list. Any other, also one that a later version brings, needs the right. */}}
{{- define "etcd-operator.podTemplatePolicy" -}}
failurePolicy: Fail
matchConstraints:
  resourceRules:
    - apiGroups: [etcd-core.io]
      apiVersions: ["*"]
      operations: [CREATE, UPDATE]
      resources: [etcdclusters]
matchConditions:
  # An edit that leaves it alone asks for nothing new.
  - name: pod-template-changes
    expression: >-
      has(object.spec.podTemplate) && has(object.spec.podTemplate.spec) &&
      !(request.operation == "UPDATE" && has(oldObject.spec.podTemplate) && has(oldObject.spec.podTemplate.spec) &&
      oldObject.spec.podTemplate.spec == object.spec.podTemplate.spec)
variables:
  - name: powers
    expression: >-
      object.spec.podTemplate.spec.filter(field, !(field in ["affinity", "nodeSelector", "priorityClassName",
      "resources", "schedulerName", "terminationGracePeriodSeconds", "tolerations", "topologySpreadConstraints"]))
validations:
  - expression: >-
      variables.powers.size() == 0 ||
      authorizer.group("").resource("pods").namespace(request.namespace).check("create").allowed()
    reason: Forbidden
    messageExpression: >-
      "spec.podTemplate.spec." + variables.powers[0] + " may be set by those who may create pods in the namespace " +
      request.namespace + "; " + request.userInfo.username + " may not"
{{- end -}}
